"""One process of a kind at a time, by an advisory lock in the hospital's Postgres. The others stand by.

The lock is the session's: it is free as soon as the holder, or its connection, is gone. A holder that does not notice
at once does no harm, because events carry ids and their consumers know repetitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

RELAY_LOCK = 0x454D5202
JOB_LOCK = 0x454D5204
ASK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class LeadershipLost(Exception):
    """The session that held the lock is gone."""


class Leadership:
    """Held while the context of :func:`lead` is entered; ``watch`` ends only by raising LeadershipLost."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(ASK_SECONDS)
            try:
                async with asyncio.timeout(ASK_SECONDS * 3):
                    await self._connection.execute(sa.text("select 1"))
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                raise LeadershipLost from error


@asynccontextmanager
async def lead(
    engine: AsyncEngine, lock: int, on_standby: Callable[[], None] = lambda: None
) -> AsyncIterator[Leadership]:
    """Waits, for ever if need be, until this process alone holds ``lock``; ``on_standby`` hears of waiting."""
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
        while not await _try_lock(connection, lock):
            on_standby()
            await asyncio.sleep(ASK_SECONDS)
        log.info("leads", lock=lock)
        try:
            yield Leadership(connection)
        finally:
            await connection.invalidate()  # ends the session, and the lock with it


async def _try_lock(connection: AsyncConnection, lock: int) -> bool:
    query = sa.text("select pg_try_advisory_lock(:lock)")
    return bool(await connection.scalar(query, {"lock": lock}))
