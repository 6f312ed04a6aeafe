"""Names of the consumer group's members, one process each."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from emr_indexer.projector.seats import SEAT_LOCKS, Seat, SeatTaken, seated
from sqlalchemy.ext.asyncio import AsyncEngine


async def test_each_process_has_a_seat_and_a_free_one_is_taken_again(database: AsyncEngine) -> None:
    async with seated(database) as first:
        async with seated(database) as second:
            assert (first.number, second.number) == (0, 1)
        async with seated(database) as third:
            assert third.number == 1
    async with seated(database) as again:
        assert again.number == 0


async def test_who_lost_the_session_has_the_seat_again_unless_another_sits_there(
    database: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emr_indexer.leadership.ASK_SECONDS", 0.05)
    async with seated(database) as seat:
        keeping = asyncio.create_task(seat.keep())
        pid = await _holder(database)
        await _end_session(database, pid)
        while await _holder(database) in (None, pid):
            await asyncio.sleep(0.02)
        assert not keeping.done()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await _end_session(database, await _holder(database))
        other = Seat(database)
        while other.number != 0:
            await other.leave()
            await other.take()
        with pytest.raises(SeatTaken):
            await seat.keep()
        await other.leave()


async def _holder(database: AsyncEngine) -> int | None:
    query = sa.text("select min(pid) from pg_locks where locktype = 'advisory' and classid = :locks and granted")
    async with database.connect() as connection:
        pid: int | None = await connection.scalar(query, {"locks": SEAT_LOCKS})
        return pid


async def _end_session(database: AsyncEngine, pid: int | None) -> None:
    async with database.connect() as connection:
        await connection.execute(sa.text("select pg_terminate_backend(:pid)"), {"pid": pid})
