"""Table ``hospital.queued_note``: notes that wait for every hospital to be there, in order for each EMR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_readmodel.hospital import queued_note
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.backlogs import require_room

QUEUED, SUBMITTED, COMMITTED, REFUSED = "queued", "submitted", "committed", "refused"

MOST_WAITING = 1000
"""Of one caller's."""

columns = queued_note.c
_ENDED = {"sealed_note": None, "finished_at": sa.func.now()}


@dataclass(frozen=True, repr=False)
class QueuedNote:
    """``sealed_note`` is kept until the note has ended: committed with ``version`` and ``block``, or refused with
    ``code``.
    """

    ticket: str
    emr_id: str
    caller: str
    note_id: str
    kind: str
    expected_version: int | None
    sealed_note: bytes | None
    state: str = QUEUED
    transaction_id: str | None = None
    version: int | None = None
    block: int | None = None
    code: str | None = None

    def document(self) -> dict[str, Any]:
        known = {
            "transactionId": self.transaction_id,
            "version": self.version,
            "block": self.block,
            "code": self.code,
        }
        return {
            "ticket": self.ticket,
            "function": Function.ADD_EMR_NOTE.wire_name,
            "state": self.state,
            "emrId": self.emr_id,
            "noteId": self.note_id,
            **{name: value for name, value in known.items() if value is not None},
        }


class QueuedNotes:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, note: QueuedNote) -> None:
        """Durable when it returns. Repeatable. Raises Problem TOO_MANY_REQUESTS when MOST_WAITING of the caller's other
        notes wait.
        """
        row = {name: getattr(note, name) for name in _NAMES}
        waits = sa.and_(columns.caller == note.caller, columns.finished_at.is_(None), columns.ticket != note.ticket)
        async with self._engine.begin() as connection:
            await require_room(connection, waits, MOST_WAITING)
            added = insert(queued_note).values(row).on_conflict_do_nothing(index_elements=[columns.ticket])
            await connection.execute(added)

    async def find(self, ticket: str) -> QueuedNote | None:
        return await self._one(sa.select(*_COLUMNS).where(columns.ticket == ticket))

    async def waiting(self) -> Sequence[str]:
        """EMRs for which notes wait, the longest waiting first."""
        first = sa.func.min(columns.position)
        query = sa.select(columns.emr_id).where(columns.finished_at.is_(None)).group_by(columns.emr_id)
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query.order_by(first)))

    async def first(self, emr_id: str) -> QueuedNote | None:
        """The one of an EMR whose turn it is."""
        waits = sa.select(*_COLUMNS).where(columns.emr_id == emr_id, columns.finished_at.is_(None))
        return await self._one(waits.order_by(columns.position).limit(1))

    async def submitting(self, ticket: str, transaction_id: str) -> None:
        await self._update(ticket, {"state": SUBMITTED, "transaction_id": transaction_id})

    async def committed(self, ticket: str, version: int, block: int | None) -> None:
        await self._update(ticket, {**_ENDED, "state": COMMITTED, "version": version, "block": block})

    async def refused(self, ticket: str, code: Code) -> None:
        await self._update(ticket, {**_ENDED, "state": REFUSED, "code": code.name})

    async def _one(self, query: sa.Select[Any]) -> QueuedNote | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else QueuedNote(**{name: row[name] for name in _NAMES})

    async def _update(self, ticket: str, values: Mapping[str, Any]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(sa.update(queued_note).where(columns.ticket == ticket).values(values))


_NAMES = tuple(QueuedNote.__dataclass_fields__)
_COLUMNS = [columns[name] for name in _NAMES]
