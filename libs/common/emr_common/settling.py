"""Transactions whose process died before it knew the outcome: the ledger is asked for it, and nothing sent again."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import sqlalchemy as sa
import structlog
from emr_readmodel.hospital import transaction
from hlf.commits import Commit
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.chores import Chore
from emr_common.transactions import PENDING, TransactionStore

EVERY_SECONDS = 300.0
LEFT_AFTER = timedelta(minutes=1)
ASKED_FOR = timedelta(days=7)
"""What stands in no block by then was never handed in. Its signer may still ask, and then so is the ledger."""
PAGE = 200

SETTLED = Counter("emr_transactions_settled_late_total", "Outcomes that were learnt after their process had died")

log = structlog.get_logger(__name__)


class Finds(Protocol):
    """What is needed of the ledger."""

    async def find(self, transaction_id: str) -> Commit | None: ...


class Settling:
    """Its rounds may be cut off anywhere, and repeated by any instance of any service of the hospital."""

    def __init__(self, engine: AsyncEngine, ledger: Finds, transactions: TransactionStore) -> None:
        self._engine = engine
        self._ledger = ledger
        self._transactions = transactions

    def chore(self) -> Chore:
        """At a process's start, and then from time to time."""
        return Chore("transactions", EVERY_SECONDS, self.run, at_start=True)

    async def run(self) -> int:
        """How many outcomes were learnt. Raises Problem while the ledger cannot be asked."""
        settled, after = 0, ""
        while page := await self._left(after):
            for transaction_id in page:
                commit = await self._ledger.find(transaction_id)
                if commit is not None:
                    await self._transactions.settle_now(transaction_id, commit.validation_name, commit.block_number)
                    settled += 1
            after = page[-1]
        SETTLED.inc(settled)
        if settled:
            log.info("transactions_settled", count=settled)
        return settled

    async def _left(self, after: str) -> list[str]:
        columns = transaction.c
        query = sa.select(columns.transaction_id).where(
            columns.state == PENDING,
            columns.created_at < sa.func.now() - LEFT_AFTER,
            columns.created_at > sa.func.now() - ASKED_FOR,
            columns.transaction_id > after,
        )
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query.order_by(columns.transaction_id).limit(PAGE)))
