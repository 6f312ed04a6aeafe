"""What the indexer's API reads from Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from emr_common import cursors
from emr_readmodel.care import dead_letter, parked, position
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_ORDER = (dead_letter.c.first_at, dead_letter.c.event_id, dead_letter.c.code)
_STANDS = sa.and_(dead_letter.c.stops_partition, dead_letter.c.resolved_at.is_(None))


@dataclass(frozen=True)
class Partition:
    partition: int
    block: int
    marked_at: datetime | None
    stopped: bool


@dataclass(frozen=True)
class Page:
    """``next`` is the cursor of the page after this one, None at the end."""

    rows: Sequence[dict[str, Any]]
    as_of_block: int
    next: str | None


class IndexStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def partitions(self) -> list[Partition]:
        waits = sa.exists().where(dead_letter.c.partition == position.c.partition, _STANDS)
        query = sa.select(position.c.partition, position.c.block, position.c.marked_at, waits)
        async with self._engine.connect() as connection:
            found = await connection.execute(query.order_by(position.c.partition))
            return [Partition(*row) for row in found]

    async def count_parked(self) -> int:
        async with self._engine.connect() as connection:
            return (await connection.scalars(sa.select(sa.func.count()).select_from(parked))).one()

    async def has_dead_letter(self, event_id: str) -> bool:
        async with self._engine.connect() as connection:
            query = sa.select(sa.exists().where(dead_letter.c.event_id == event_id))
            return bool(await connection.scalar(query))

    async def dead_letters(self, *, resolved: bool | None, limit: int, after: str | None) -> Page:
        """The newest first. Raises Problem MALFORMED_REQUEST for a cursor that is none of ours."""
        waits = sa.exists().where(parked.c.event_id == dead_letter.c.event_id, parked.c.code == dead_letter.c.code)
        query = (
            sa.select(dead_letter, waits.label("parked"))
            .order_by(*(column.desc() for column in _ORDER))
            .limit(limit + 1)
        )
        if resolved is not None:
            is_resolved = dead_letter.c.resolved_at.is_not(None)
            query = query.where(is_resolved if resolved else sa.not_(is_resolved))
        if after is not None:
            query = query.where(sa.tuple_(*_ORDER) < sa.tuple_(*cursors.position(after, _key)))
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            block = await _as_of_block(connection)
            rows = [dict(row) for row in (await connection.execute(query)).mappings()]
        return Page(rows[:limit], block, _cursor(rows[limit - 1]) if len(rows) > limit else None)


async def _as_of_block(connection: AsyncConnection) -> int:
    least: int | None = await connection.scalar(sa.select(sa.func.min(position.c.block)))
    return -1 if least is None else least


def _cursor(row: dict[str, Any]) -> str:
    return cursors.cursor([row["first_at"].isoformat(), row["event_id"], row["code"]])


def _key(first_at: str, event_id: str, code: str) -> tuple[datetime, str, str]:
    return cursors.moment(first_at), cursors.text(event_id), cursors.text(code)
