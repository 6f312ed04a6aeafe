"""What became of a transaction: ``hospital.transaction`` and the route by which its signer asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from emr_readmodel.hospital import transaction
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import tracing
from emr_common.queued_notes import QueuedNotes
from emr_common.statements import Statement

VALID = "VALID"
PENDING, COMMITTED, INVALID = "pending", "committed", "invalid"
FLUSH_SECONDS = 0.25
QUEUE_LIMIT = 10_000
ONE_SUBMISSION = timedelta(seconds=30)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Status:
    """``state`` is ``pending``, ``committed`` or ``invalid``; block and validation code are known once it is not
    pending.
    """

    transaction_id: str
    caller: str
    function: str
    state: str
    block: int | None
    validation_code: str | None

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "transactionId": self.transaction_id,
            "function": self.function,
            "state": self.state,
        }
        if self.state != PENDING:
            document |= {"block": self.block, "validationCode": self.validation_code}
        return document


class TransactionStore:
    """Table ``hospital.transaction``: a row from just before a submission.

    Outcomes are written in batches a little later, off the path of requests: the ledger has them, and a row that was
    still pending when its process died is settled from there (``settling``), or when somebody asks before that.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.queued = QueuedNotes(engine)
        self._outcomes: asyncio.Queue[_Outcome] = asyncio.Queue(QUEUE_LIMIT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TransactionStore]:
        """Writes outcomes while entered, and the last of them on leaving."""
        writer = asyncio.create_task(self._write_outcomes(), name="transaction outcomes")
        try:
            yield self
        finally:
            writer.cancel()
            await asyncio.wait([writer])
            await self._flush()

    async def begin(self, transaction_id: str, caller: str, function: str) -> None:
        """Durable when it returns."""
        row = {"this": transaction_id, "by": caller, "calls": function, "trace": tracing.traceparent()}
        await _BEGIN.run(self._engine, **row)

    def settle(self, transaction_id: str, validation_code: str, block: int | None) -> None:
        """Has the outcome written soon. When writing is far behind it is left out: the ledger still has it."""
        if not self._outcomes.full():
            self._outcomes.put_nowait(_outcome(transaction_id, validation_code, block))

    async def settle_now(self, transaction_id: str, validation_code: str, block: int) -> None:
        """The same, durable when it returns."""
        await self._settle([_outcome(transaction_id, validation_code, block)])

    async def withdraw(self, transaction_id: str) -> None:
        """It was refused before any orderer had it: there will be no outcome. An older row stays: it may be of an
        earlier submission of the same transaction. Tried once only; what stays behind is forgotten in time.
        """
        is_own = transaction.c.created_at > sa.func.now() - ONE_SUBMISSION
        is_this = sa.and_(transaction.c.transaction_id == transaction_id, transaction.c.state == PENDING, is_own)
        try:
            async with self._engine.begin() as connection:
                await connection.execute(sa.delete(transaction).where(is_this))
        except (SQLAlchemyError, OSError) as error:
            log.warning("transaction_not_withdrawn", transaction_id=transaction_id, exc_info=error)

    async def _write_outcomes(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        outcomes = [self._outcomes.get_nowait() for _ in range(self._outcomes.qsize())]
        if not outcomes:
            return
        try:
            await self._settle(outcomes)
        except (SQLAlchemyError, OSError) as error:
            log.warning("outcomes_not_written", count=len(outcomes), exc_info=error)

    async def _settle(self, outcomes: Sequence[_Outcome]) -> None:
        these, states, codes, blocks = zip(*outcomes, strict=True)
        await _SETTLE.run(self._engine, these=these, states=states, codes=codes, blocks=blocks)

    async def find(self, transaction_id: str) -> Status | None:
        query = sa.select(*_STATUS).where(transaction.c.transaction_id == transaction_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Status(*row)


_Outcome = tuple[str, str, str, int | None]
"""Transaction id, state, validation code and block."""


def _outcome(transaction_id: str, validation_code: str, block: int | None) -> _Outcome:
    state = COMMITTED if validation_code == VALID else INVALID
    return transaction_id, state, validation_code, block


_STATUS = [
    transaction.c[name] for name in ("transaction_id", "caller", "function", "state", "block", "validation_code")
]
_BEGIN = Statement(
    insert(transaction)
    .values(
        transaction_id=sa.bindparam("this"),
        caller=sa.bindparam("by"),
        function=sa.bindparam("calls"),
        state=PENDING,
        traceparent=sa.bindparam("trace"),
    )
    .on_conflict_do_nothing()
)
_settled = (
    sa.func.unnest(
        sa.bindparam("these", type_=ARRAY(sa.Text())),
        sa.bindparam("states", type_=ARRAY(sa.Text())),
        sa.bindparam("codes", type_=ARRAY(sa.Text())),
        sa.bindparam("blocks", type_=ARRAY(sa.BigInteger())),
    )
    .table_valued("this", "state", "code", "block", name="settled")
    .render_derived()
)
_SETTLE = Statement(
    sa.update(transaction)
    .where(transaction.c.transaction_id == _settled.c.this)
    .values(
        state=_settled.c.state,
        validation_code=_settled.c.code,
        block=_settled.c.block,
        settled_at=sa.func.now(),
    )
)
