"""Which member of the consumer group a process is.

Kafka gives a member that comes back under the same name its partitions at once. Those of one without a name, if it was
killed, wait for the end of its session. So every projector of a hospital takes the first seat that is free, by an
advisory lock: the one that follows a killed one sits down in its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_indexer.leadership import Leadership, LeadershipLost
from emr_indexer.postgres import persistently

SEAT_LOCKS = 0x454D5206

log = structlog.get_logger(__name__)


class SeatTaken(Exception):
    """Another process sat down while Postgres did not know that this one still sits there."""


class Seat:
    """Held by a session of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self.number = -1

    async def keep(self) -> None:
        """Ends only by raising SeatTaken. A Postgres that goes away is waited for; nobody can sit down meanwhile."""
        while True:
            assert self._connection is not None
            with suppress(LeadershipLost):
                await Leadership(self._connection).watch()
            await self.leave()
            await persistently(self._take_again)

    async def take(self) -> None:
        """The first that is free."""
        connection = await self._connect()
        for number in count():
            if await _try(connection, number):
                self.number, self._connection = number, connection
                return

    async def _take_again(self) -> None:
        connection = await self._connect()
        self._connection = connection
        if not await _try(connection, self.number):
            raise SeatTaken

    async def _connect(self) -> AsyncConnection:
        connection = await self._engine.connect()
        return await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def leave(self) -> None:
        """Ends the session, and the lock with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()


@asynccontextmanager
async def seated(engine: AsyncEngine) -> AsyncIterator[Seat]:
    seat = Seat(engine)
    await persistently(seat.take)
    log.info("seated", seat=seat.number)
    try:
        yield seat
    finally:
        await seat.leave()


async def _try(connection: AsyncConnection, number: int) -> bool:
    query = sa.select(sa.func.pg_try_advisory_lock(SEAT_LOCKS, number))
    return bool(await connection.scalar(query))
