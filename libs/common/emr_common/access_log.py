"""Who read which record: ``hospital.access_log``, written before the answer leaves, and read by whom it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from emr_readmodel.hospital import access_log
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import telemetry
from emr_common.statements import Statement
from emr_common.wallet import Caller


@dataclass(frozen=True)
class LoggedRead:
    at: datetime
    reader: str
    role: str
    action: str
    purpose: str | None


@dataclass(frozen=True)
class Entry:
    """What the log says of a read by this request, but for the EMR that was read."""

    caller: Caller
    owner_msp: str
    action: str
    note_version: int | None = None
    purpose: str | None = None
    transaction_id: str | None = None

    def values(self) -> dict[str, Any]:
        """By the columns' names, which are ``COPIED``."""
        return {
            "reader": self.caller.enrolment_id,
            "role": self.caller.role.value,
            "owner_msp": self.owner_msp,
            "action": self.action,
            "note_version": self.note_version,
            "purpose": self.purpose,
            "transaction_id": self.transaction_id,
            "request_id": telemetry.request_id() or "",
        }


class AccessLog:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(
        self,
        caller: Caller,
        *,
        emr_id: str,
        owner_msp: str,
        action: str,
        note_version: int | None = None,
        purpose: str | None = None,
        transaction_id: str | None = None,
    ) -> None:
        """Returns once the entry is durable. A read whose entry cannot be written is not to be answered: let it raise.

        ``action`` names the operation, e.g. ``read-emr``; ``transaction_id`` is the receipt of a cross-hospital read.
        """
        await self.record_all(
            caller,
            emr_ids=[emr_id],
            owner_msp=owner_msp,
            action=action,
            note_version=note_version,
            purpose=purpose,
            transaction_id=transaction_id,
        )

    async def record_all(
        self,
        caller: Caller,
        *,
        emr_ids: list[str],
        owner_msp: str,
        action: str,
        note_version: int | None = None,
        purpose: str | None = None,
        transaction_id: str | None = None,
    ) -> None:
        """One entry for each EMR that an answer shows, e.g. the hits of a search."""
        if emr_ids:
            entry = Entry(caller, owner_msp, action, note_version, purpose, transaction_id)
            await _RECORD.run(self._engine, emr_ids=emr_ids, **entry.values())

    async def of(self, emr_id: str, most: int) -> list[LoggedRead]:
        """The newest reads of an EMR, ``most`` of them; the oldest of these first."""
        columns = (access_log.c[name] for name in LoggedRead.__dataclass_fields__)
        query = sa.select(*columns).where(access_log.c.emr_id == emr_id)
        newest = query.order_by(access_log.c.at.desc(), access_log.c.id.desc()).limit(most)
        async with self._engine.connect() as connection:
            return [LoggedRead(*row) for row in reversed((await connection.execute(newest)).all())]


COPIED = ("reader", "role", "owner_msp", "action", "note_version", "purpose", "transaction_id", "request_id")


def entries_of(emr_id: sa.ColumnElement[str]) -> sa.Insert:
    """An entry for each of some EMRs. Its parameters are an Entry's values."""
    values = (sa.bindparam(name, type_=access_log.c[name].type) for name in COPIED)
    return sa.insert(access_log).from_select(["emr_id", *COPIED], sa.select(emr_id, *values))


_RECORD = Statement(entries_of(sa.func.unnest(sa.bindparam("emr_ids", type_=ARRAY(sa.Text())))))
