"""Forgetting what only grows: keys of requests answered long ago, what became of transactions, imports, notes that had
waited, and what administrators asked of the indexer; preparations that nobody can sign for any more.

What the ledger said of a transaction is on the ledger; an Idempotency-Key used again after its time is a new request.
The access log is never forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa
from emr_readmodel.hospital import idempotency, import_job, index_job, preparation, queued_note, transaction
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.preparations import KEPT as PREPARATIONS_KEPT
from emr_common.settings import RetentionSettings
from emr_common.settling import ASKED_FOR
from emr_common.transactions import PENDING

EVERY_SECONDS = 900.0
UNANSWERED_KEYS_KEPT = timedelta(days=30)
BATCH = 1000
MOST_BATCHES = 100

FORGOTTEN = Counter("emr_rows_forgotten_total", "Rows that were kept for their time", ["table"])


class Retention:
    """Deletes in short transactions, at most 100,000 rows of a table in a round. Nothing is forgotten that has not
    ended: an import or a note that waits, a request's key while it is being answered. A transaction without an outcome
    has ended once the ledger has been asked for it in vain for a week.
    """

    def __init__(self, engine: AsyncEngine, settings: RetentionSettings | None = None) -> None:
        self._engine = engine
        self._settings = settings or RetentionSettings()

    async def run(self) -> int:
        """How many rows were forgotten. May be cut off anywhere."""
        return sum([await self._forget(table, is_over) for table, is_over in self._over()])

    def _over(self) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
        kept = self._settings
        yield idempotency, _keys(timedelta(days=kept.answered_keys_days))
        yield transaction, _ended(transaction.c.settled_at, kept.transactions_days)
        yield transaction, _lost(timedelta(days=kept.transactions_days))
        yield preparation, preparation.c.prepared_at < sa.func.now() - PREPARATIONS_KEPT
        yield queued_note, _ended(queued_note.c.finished_at, kept.queued_notes_days)
        yield import_job, _ended(import_job.c.finished_at, kept.imports_days)
        yield index_job, _ended(index_job.c.finished_at, kept.jobs_days)

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


def _keys(kept: timedelta) -> sa.ColumnElement[bool]:
    columns = idempotency.c
    answered = sa.and_(columns.state == "done", columns.finished_at < sa.func.now() - kept)
    return sa.or_(answered, columns.started_at < sa.func.now() - UNANSWERED_KEYS_KEPT)


def _lost(kept: timedelta) -> sa.ColumnElement[bool]:
    columns = transaction.c
    return sa.and_(columns.state == PENDING, columns.created_at < sa.func.now() - max(kept, ASKED_FOR))


def _ended(at: sa.Column[datetime], days: float) -> sa.ColumnElement[bool]:
    """What has not ended has no such moment."""
    return at < sa.func.now() - timedelta(days=days)
