"""What a hospital's processes do beside requests, from time to time, one process at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncEngine

CHORES = Counter("emr_chores_total", "Rounds of work beside requests", ["chore", "outcome"])

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Chore:
    """``work`` does a round and may be cut off anywhere: the next round goes on. ``at_start``: the first is at once."""

    name: str
    every_seconds: float
    work: Callable[[], Awaitable[object]]
    at_start: bool = False


@asynccontextmanager
async def chores(engine: AsyncEngine, *given: Chore) -> AsyncIterator[None]:
    """Does them while entered. A round that fails is logged and counted, and tried again at its next time."""
    tasks = [asyncio.create_task(_do_for_ever(engine, one), name=one.name) for one in given]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _do_for_ever(engine: AsyncEngine, chore: Chore) -> None:
    if chore.at_start:
        await _do(engine, chore)
    while True:
        await asyncio.sleep(chore.every_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes
        await _do(engine, chore)


async def _do(engine: AsyncEngine, chore: Chore) -> None:
    CHORES.labels(chore.name, await do_once(engine, chore)).inc()


async def do_once(engine: AsyncEngine, chore: Chore) -> str:
    """``done``, ``elsewhere`` when another process is at it, or ``failed``."""
    try:
        async with engine.connect() as connection, connection.begin():
            if not await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_lock_of(chore)))):
                return "elsewhere"
            await chore.work()
    except Exception as error:
        log.warning("chore_failed", chore=chore.name, exc_info=error)
        return "failed"
    return "done"


def _lock_of(chore: Chore) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(f"emr chore {chore.name}", 0)
