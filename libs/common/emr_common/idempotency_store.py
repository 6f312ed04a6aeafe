"""Table ``hospital.idempotency``: who may try a request now, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa
from emr_readmodel.hospital import idempotency
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.statements import Statement

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
        request = {"for_caller": caller, "for_key": key, "for_route": route, "for_sha256": request_sha256}
        mine = await _TAKE.row(self._engine, **request, lease=self._lease)
        if mine is not None:
            return _row(mine, is_mine=True, is_new=mine["is_new"])
        found = await _FIND.row(self._engine, for_caller=caller, for_key=key)
        return await self.claim(caller, key, route, request_sha256) if found is None else _row(found)

    async def renew(self, row: Row) -> None:
        """Makes the lease whole again. Raises LeaseLost."""
        async with row.lock:
            moved = await _RENEW.row(self._engine, **_same(row))
            if moved is None:
                raise LeaseLost
            row.started_at = moved["started_at"]

    async def plan(self, row: Row, ids: Mapping[str, Any], transaction_id: str | None) -> None:
        """Raises LeaseLost, so that an attempt which was taken over cannot submit."""
        planned = {"ids": _text(ids), "new_transaction": transaction_id or row.transaction_id}
        async with row.lock:
            changed = await _PLAN.run(self._engine, **_same(row), **planned)
        if changed == 0:
            raise LeaseLost

    async def finish(self, row: Row, status: int, ids: Mapping[str, Any], transaction_id: str | None) -> None:
        """Keeps the answer. An attempt that was taken over leaves that to the other: both found the same effect."""
        done = {"new_status": status, "ids": _text(ids), "new_transaction": transaction_id}
        async with row.lock:
            await _FINISH.run(self._engine, **_same(row), **done)

    async def release(self, row: Row, *, forget: bool) -> None:
        """Lets the next attempt begin at once; ``forget`` drops what this one had planned, and what the request was."""
        async with row.lock:
            if forget:
                await _FORGET.run(self._engine, **_same(row))
            else:
                await _RELEASE.run(self._engine, **_same(row), long_ago=self._long_before(row))

    async def reopen(self, row: Row) -> None:
        """Makes a request whose transaction turned out invalid one to be tried again, by whoever claims it first."""
        await _REOPEN.run(self._engine, **_same(row), long_ago=self._long_before(row))

    def _long_before(self, row: Row) -> datetime:
        return row.started_at - 2 * self._lease


def _same(row: Row) -> dict[str, Any]:
    return {"of_caller": row.caller, "of_key": row.key, "as_of": row.started_at}


def _text(ids: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(ids)).decode()


def _row(found: asyncpg.Record, *, is_mine: bool = False, is_new: bool = False) -> Row:
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


_CALLER = sa.bindparam("for_caller", type_=columns.caller.type)
_KEY = sa.bindparam("for_key", type_=columns.key.type)
_ROUTE = sa.bindparam("for_route", type_=columns.route.type)
_SHA256 = sa.bindparam("for_sha256", type_=columns.request_sha256.type)
_IDS = sa.bindparam("ids", type_=columns.answer.type)
_TRANSACTION = sa.bindparam("new_transaction", type_=sa.Text())
_LONG_AGO = sa.bindparam("long_ago", type_=columns.started_at.type)
_SAME = (
    columns.caller == sa.bindparam("of_caller"),
    columns.key == sa.bindparam("of_key"),
    columns.started_at == sa.bindparam("as_of"),
)
_NOW = sa.func.clock_timestamp()

_TAKE = Statement(
    insert(idempotency)
    .values(caller=_CALLER, key=_KEY, route=_ROUTE, request_sha256=_SHA256, state="running")
    .on_conflict_do_update(
        index_elements=[columns.caller, columns.key],
        set_={"started_at": _NOW},
        where=sa.and_(
            columns.state == "running",
            columns.request_sha256 == _SHA256,
            columns.route == _ROUTE,
            columns.started_at < _NOW - sa.bindparam("lease", type_=sa.Interval()),
        ),
    )
    .returning(idempotency, sa.literal_column("(xmax = 0)").label("is_new"))
)
_FIND = Statement(sa.select(idempotency).where(columns.caller == _CALLER, columns.key == _KEY))
_RENEW = Statement(
    sa.update(idempotency)
    .where(*_SAME, columns.state == "running")
    .values(started_at=_NOW)
    .returning(columns.started_at)
)
_PLAN = Statement(sa.update(idempotency).where(*_SAME).values(answer=_IDS, transaction_id=_TRANSACTION))
_FINISH = Statement(
    sa.update(idempotency)
    .where(*_SAME)
    .values(
        state="done",
        status=sa.bindparam("new_status", type_=sa.Integer()),
        answer=_IDS,
        transaction_id=sa.func.coalesce(_TRANSACTION, columns.transaction_id),
        finished_at=_NOW,
    )
)
_FORGET = Statement(sa.delete(idempotency).where(*_SAME))
_RELEASE = Statement(sa.update(idempotency).where(*_SAME).values(started_at=_LONG_AGO))
_REOPEN = Statement(
    sa.update(idempotency)
    .where(*_SAME, columns.state == "done")
    .values(state="running", status=None, transaction_id=None, started_at=_LONG_AGO)
)
