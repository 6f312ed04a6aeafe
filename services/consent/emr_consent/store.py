"""What the consent service and the sharer read from Postgres: the sharings of schema ``care``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from emr_common import cursors
from emr_common.parking import Parked, has_other_owner, has_owner, parked_among
from emr_common.positions import as_of_block
from emr_model.ledger.sharing import SharingState
from emr_readmodel.care import sharing
from emr_readmodel.sharing import sharing_state
from sqlalchemy.ext.asyncio import AsyncEngine

_KEY = (sharing.c.emr_id, sharing.c.recipient_msp, sharing.c.number)
_STATE = sharing_state(sa.func.now()).label("state")


@dataclass(frozen=True)
class Page:
    """``next`` is the cursor of the page after this one, None at the end. ``parked`` are EMRs of the list's direction:
    their sharings are as they were before what waits, or not there.
    """

    rows: Sequence[dict[str, Any]]
    as_of_block: int | None
    next: str | None
    parked: Parked


class SharingStore:
    def __init__(self, engine: AsyncEngine, msp_id: str) -> None:
        self._engine = engine
        self._msp_id = msp_id

    async def page(self, *, direction: str | None, state: SharingState | None, limit: int, after: str | None) -> Page:
        """Sharings in the order of their keys. Raises Problem MALFORMED_REQUEST for a cursor that is none of ours."""
        query = sa.select(sharing, _STATE).where(self._in_direction(direction)).order_by(*_KEY).limit(limit + 1)
        if state is not None:
            query = query.where(_STATE.in_([state.value]))
        if after is not None:
            query = query.where(sa.tuple_(*_KEY) > sa.tuple_(*cursors.position(after, _key)))
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            block = await as_of_block(connection)
            rows = [dict(row) for row in (await connection.execute(query)).mappings()]
            shown = [row["emr_id"] for row in rows[:limit]]
            parked = await parked_among(connection, self._may_be_in_direction(direction), shown)
        more = len(rows) > limit
        return Page(rows[:limit], block, _cursor(rows[limit - 1]) if more else None, parked)

    def _may_be_in_direction(self, direction: str | None) -> sa.ColumnElement[bool]:
        """Of an EMR: another hospital's may wait with a sharing that is not with this one."""
        if direction is None:
            return sa.true()
        return has_owner(self._msp_id) if direction == "outgoing" else has_other_owner(self._msp_id)

    async def unsettled(self) -> list[tuple[str, str]]:
        """EMR and recipient of each own sharing that awaits its snapshot, or that has expired and not been ended."""
        states = [SharingState.APPROVED.value, SharingState.EXPIRED.value]
        query = sa.select(sharing.c.emr_id, sharing.c.recipient_msp).where(
            sharing.c.owner_msp == self._msp_id, _STATE.in_(states)
        )
        async with self._engine.connect() as connection:
            return [(emr_id, msp_id) for emr_id, msp_id in await connection.execute(query)]

    async def first_ending(self, sharings: Sequence[tuple[str, int]]) -> datetime | None:
        """When the first of these ended, by EMR and number, that this hospital received; None for none."""
        ends = sa.func.min(sa.func.coalesce(sharing.c.ended_at, sharing.c.expires_at))
        query = sa.select(ends).where(
            sharing.c.recipient_msp == self._msp_id,
            sa.tuple_(sharing.c.emr_id, sharing.c.number).in_(sharings),
            sa.or_(sharing.c.ended_at.is_not(None), sharing.c.expires_at < sa.func.now()),
        )
        async with self._engine.connect() as connection:
            return await connection.scalar(query)

    def _in_direction(self, direction: str | None) -> sa.ColumnElement[bool]:
        if direction == "outgoing":
            return sharing.c.owner_msp == self._msp_id
        if direction == "incoming":
            return sharing.c.recipient_msp == self._msp_id
        return sa.true()


def _cursor(row: dict[str, Any]) -> str:
    return cursors.cursor([row["emr_id"], row["recipient_msp"], row["number"]])


def _key(emr_id: str, msp_id: str, number: int) -> tuple[str, str, int]:
    return cursors.text(emr_id), cursors.text(msp_id), cursors.number(number)
