"""Forgetting what only grows: keys of requests answered long ago, and transactions whose outcome nobody asks any more.

What the ledger said of a transaction is on the ledger; an Idempotency-Key used again after its time is a new request.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from emr_readmodel.hospital import idempotency, transaction
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncEngine

EVERY_SECONDS = 900.0
ANSWERED_KEYS_KEPT = timedelta(days=7)
UNANSWERED_KEYS_KEPT = timedelta(days=30)
SETTLED_TRANSACTIONS_KEPT = timedelta(days=90)
BATCH = 1000
MOST_BATCHES = 100

FORGOTTEN = Counter("emr_rows_forgotten_total", "Rows that were kept for their time", ["table"])


class Retention:
    """Deletes in short transactions, at most 100,000 rows of a table in a round. A transaction without an outcome is
    never forgotten, and neither is a request's key while it is being answered.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self) -> int:
        """How many rows were forgotten. May be cut off anywhere."""
        return await self._forget(idempotency, _keys()) + await self._forget(transaction, _transactions())

    async def _forget(self, table: sa.Table, is_over: sa.ColumnElement[bool]) -> int:
        forgotten = 0
        place: sa.ColumnElement[object] = sa.literal_column("ctid")
        for _ in range(MOST_BATCHES):
            some = sa.select(place).select_from(table).where(is_over).limit(BATCH).with_for_update(skip_locked=True)
            async with self._engine.begin() as connection:
                count = (await connection.execute(sa.delete(table).where(place.in_(some)))).rowcount
            forgotten += count
            FORGOTTEN.labels(table.name).inc(count)
            if count < BATCH:
                break
        return forgotten


def _keys() -> sa.ColumnElement[bool]:
    columns = idempotency.c
    answered = sa.and_(columns.state == "done", columns.finished_at < sa.func.now() - ANSWERED_KEYS_KEPT)
    return sa.or_(answered, columns.started_at < sa.func.now() - UNANSWERED_KEYS_KEPT)


def _transactions() -> sa.ColumnElement[bool]:
    columns = transaction.c
    return sa.and_(columns.state != "pending", columns.settled_at < sa.func.now() - SETTLED_TRANSACTIONS_KEPT)
