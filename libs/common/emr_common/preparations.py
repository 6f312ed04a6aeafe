"""Table ``hospital.preparation``: calls of people who keep their own key, between the steps that they sign.

Any instance goes on with what another began. Times are the database's, so that instances agree on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from emr_model.ledger.functions import Function, Kind
from emr_readmodel.hospital import preparation
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.backlogs import require_room

ENDORSE_WITHIN = timedelta(minutes=4)
SUBMIT_WITHIN = timedelta(minutes=10)
ANOTHER_MAY_AFTER = timedelta(seconds=30)
KEPT = timedelta(days=1)
MOST_OPEN = 500
PREPARED, ENDORSED, SUBMITTED, VOID = "prepared", "endorsed", "submitted", "void"

columns = preparation.c


@dataclass(frozen=True, repr=False)
class Preparation:
    """``proposal`` and ``transaction`` are hlf's bytes of the two steps, without the caller's signature."""

    transaction_id: str
    caller: str
    function: Function
    ids: Mapping[str, Any]
    proposal: bytes
    transaction: bytes | None
    prepared_at: datetime
    submitted_at: datetime | None
    answer: Mapping[str, Any] | None
    read_at: datetime

    @property
    def is_read(self) -> bool:
        return self.function.spec.kind is Kind.EVALUATE

    @property
    def endorse_before(self) -> datetime:
        return self.prepared_at + ENDORSE_WITHIN

    @property
    def submit_before(self) -> datetime:
        return self.prepared_at + SUBMIT_WITHIN

    @property
    def state(self) -> str:
        """As of the moment when it was read."""
        if self.submitted_at is not None:
            return SUBMITTED
        if self.read_at >= (self.endorse_before if self.transaction is None else self.submit_before):
            return VOID
        return PREPARED if self.transaction is None else ENDORSED


def _is_open_of(caller: str) -> sa.ColumnElement[bool]:
    """What was prepared within SUBMIT_WITHIN and not handed in."""
    is_recent = columns.prepared_at > sa.func.now() - SUBMIT_WITHIN
    return sa.and_(columns.caller == caller, is_recent, columns.submitted_at.is_(None))


class PreparationStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(
        self, transaction_id: str, caller: str, function: Function, ids: Mapping[str, Any], proposal: bytes
    ) -> Preparation:
        """Drops what is older than a day, too. Raises Problem TOO_MANY_REQUESTS when the caller has MOST_OPEN."""
        row = {
            "transaction_id": transaction_id,
            "caller": caller,
            "function": function.wire_name,
            "ids": dict(ids),
            "proposal": proposal,
        }
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(preparation).where(columns.prepared_at < sa.func.now() - KEPT))
            await require_room(connection, _is_open_of(caller), MOST_OPEN)
            added = await connection.execute(sa.insert(preparation).values(row).returning(*_COLUMNS))
            return _preparation(added.mappings().one())

    async def find(self, transaction_id: str) -> Preparation | None:
        query = sa.select(*_COLUMNS).where(columns.transaction_id == transaction_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else _preparation(row)

    async def take_endorsement(self, transaction_id: str) -> bool:
        """Whether the caller of this method is to have it endorsed: peers refuse two of one id at once."""
        was_left = columns.endorsing_at < sa.func.clock_timestamp() - ANOTHER_MAY_AFTER
        may = sa.and_(columns.transaction.is_(None), sa.or_(columns.endorsing_at.is_(None), was_left))
        return await self._update(transaction_id, may, {"endorsing_at": sa.func.clock_timestamp()})

    async def not_endorsed(self, transaction_id: str) -> None:
        """Somebody else may try."""
        await self._update(transaction_id, columns.transaction.is_(None), {"endorsing_at": None})

    async def keep_endorsed(self, transaction_id: str, transaction: bytes) -> None:
        """The first that was endorsed stays: it may have been signed."""
        await self._update(transaction_id, columns.transaction.is_(None), {"transaction": transaction})

    async def take_submission(self, transaction_id: str) -> bool:
        """Whether the caller of this method is to hand the transaction in: one at a time, within its time."""
        is_first = sa.and_(
            columns.submitted_at.is_(None), columns.prepared_at > sa.func.clock_timestamp() - SUBMIT_WITHIN
        )
        was_left = columns.submitted_at < sa.func.clock_timestamp() - ANOTHER_MAY_AFTER
        may = sa.and_(columns.answer.is_(None), sa.or_(is_first, was_left))
        return await self._update(transaction_id, may, {"submitted_at": sa.func.clock_timestamp()})

    async def not_submitted(self, transaction_id: str) -> None:
        """The orderers refused it unread: it may be handed in again."""
        await self._update(transaction_id, sa.true(), {"submitted_at": None})

    async def keep_answer(self, transaction_id: str, answer: Mapping[str, Any]) -> None:
        await self._update(transaction_id, sa.true(), {"answer": dict(answer)})

    async def _update(self, transaction_id: str, condition: sa.ColumnElement[bool], values: Mapping[str, Any]) -> bool:
        changed = sa.update(preparation).where(columns.transaction_id == transaction_id, condition).values(values)
        async with self._engine.begin() as connection:
            return (await connection.execute(changed)).rowcount > 0


_NAMES = (
    "transaction_id",
    "caller",
    "function",
    "ids",
    "proposal",
    "transaction",
    "prepared_at",
    "submitted_at",
    "answer",
)
_COLUMNS = (*(columns[name] for name in _NAMES), sa.func.clock_timestamp().label("read_at"))


def _preparation(row: Mapping[Any, Any]) -> Preparation:
    function = Function.by_wire_name(row["function"])
    assert function is not None
    transaction = row["transaction"]
    return Preparation(
        row["transaction_id"],
        row["caller"],
        function,
        row["ids"],
        bytes(row["proposal"]),
        None if transaction is None else bytes(transaction),
        row["prepared_at"],
        row["submitted_at"],
        row["answer"],
        row["read_at"],
    )
