"""Table ``hospital.idempotency``: who may try a request now, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from emr_readmodel.hospital import idempotency
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

columns = idempotency.c


class LeaseLost(Exception):
    """Another attempt has taken the request over: this one must not go on."""


@dataclass(eq=False)
class Row:
    """A request as it stands. ``is_mine``: this claim may try it, as long as nobody else has moved ``started_at``;
    ``is_new``: nobody tried it before.
    """

    caller: str
    key: str
    route: str
    request_sha256: bytes
    state: str
    status: int | None
    transaction_id: str | None
    started_at: datetime
    ids: Mapping[str, Any] = field(default_factory=dict)
    is_mine: bool = False
    is_new: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


class IdempotencyStore:
    def __init__(self, engine: AsyncEngine, lease_seconds: float) -> None:
        self._engine = engine
        self._lease = timedelta(seconds=lease_seconds)

    async def claim(self, caller: str, key: str, route: str, request_sha256: bytes) -> Row:
        """Takes the request if it is new, or if its lease ran out; else tells how it stands. Atomic."""
        offered = insert(idempotency).values(
            caller=caller, key=key, route=route, request_sha256=request_sha256, state="running"
        )
        taken = offered.on_conflict_do_update(
            index_elements=[columns.caller, columns.key],
            set_={"started_at": sa.func.clock_timestamp()},
            where=sa.and_(
                columns.state == "running",
                columns.request_sha256 == request_sha256,
                columns.route == route,
                columns.started_at < sa.func.clock_timestamp() - self._lease,
            ),
        ).returning(idempotency, sa.literal_column("(xmax = 0)").label("is_new"))
        async with self._engine.begin() as connection:
            mine = (await connection.execute(taken)).mappings().one_or_none()
            if mine is not None:
                return _row(mine, is_mine=True, is_new=mine["is_new"])
            query = sa.select(idempotency).where(columns.caller == caller, columns.key == key)
            found = (await connection.execute(query)).mappings().one_or_none()
        return await self.claim(caller, key, route, request_sha256) if found is None else _row(found)

    async def renew(self, row: Row) -> None:
        """Makes the lease whole again. Raises LeaseLost."""
        async with row.lock, self._engine.begin() as connection:
            renewed = sa.update(idempotency).where(*_same(row), columns.state == "running")
            moved = renewed.values(started_at=sa.func.clock_timestamp()).returning(columns.started_at)
            started_at = await connection.scalar(moved)
            if started_at is None:
                raise LeaseLost
            row.started_at = started_at

    async def plan(self, row: Row, ids: Mapping[str, Any], transaction_id: str | None) -> None:
        """Raises LeaseLost, so that an attempt which was taken over cannot submit."""
        await self._update(row, {"answer": dict(ids), "transaction_id": transaction_id or row.transaction_id})

    async def finish(self, row: Row, status: int, ids: Mapping[str, Any], transaction_id: str | None) -> None:
        """Keeps the answer. An attempt that was taken over leaves that to the other: both found the same effect."""
        done = {
            "state": "done",
            "status": status,
            "answer": dict(ids),
            "transaction_id": transaction_id or columns.transaction_id,
            "finished_at": sa.func.clock_timestamp(),
        }
        async with row.lock, self._engine.begin() as connection:
            await connection.execute(sa.update(idempotency).where(*_same(row)).values(done))

    async def release(self, row: Row, *, forget: bool) -> None:
        """Lets the next attempt begin at once; ``forget`` drops what this one had planned, and what the request was."""
        async with row.lock, self._engine.begin() as connection:
            if forget:
                await connection.execute(sa.delete(idempotency).where(*_same(row)))
            else:
                long_ago = sa.literal(row.started_at) - 2 * self._lease
                await connection.execute(sa.update(idempotency).where(*_same(row)).values(started_at=long_ago))

    async def reopen(self, row: Row) -> None:
        """Makes a request whose transaction turned out invalid one to be tried again, by whoever claims it first."""
        again = {"state": "running", "status": None, "started_at": sa.literal(row.started_at) - 2 * self._lease}
        async with self._engine.begin() as connection:
            await connection.execute(
                sa.update(idempotency)
                .where(*_same(row), columns.state == "done")
                .values({**again, "transaction_id": None})
            )

    async def _update(self, row: Row, values: Mapping[str, Any]) -> None:
        async with row.lock, self._engine.begin() as connection:
            changed = await connection.execute(sa.update(idempotency).where(*_same(row)).values(values))
        if changed.rowcount == 0:
            raise LeaseLost


def _same(row: Row) -> tuple[sa.ColumnElement[bool], ...]:
    return (columns.caller == row.caller, columns.key == row.key, columns.started_at == row.started_at)


def _row(found: Mapping[Any, Any], *, is_mine: bool = False, is_new: bool = False) -> Row:
    return Row(
        found["caller"],
        found["key"],
        found["route"],
        bytes(found["request_sha256"]),
        found["state"],
        found["status"],
        found["transaction_id"],
        found["started_at"],
        found["answer"] or {},
        is_mine,
        is_new,
    )
