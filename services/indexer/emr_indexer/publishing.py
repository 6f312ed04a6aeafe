"""Once a day the published numbers are refreshed, by whichever instance looks first."""

from __future__ import annotations

import asyncio
import time

import sqlalchemy as sa
import structlog
from emr_readmodel.hospital import release
from emr_readmodel.releases import refresh
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer import metrics

LOOK_SECONDS = 600.0

log = structlog.get_logger(__name__)


async def publish_daily(engine: AsyncEngine, owner_msp: str) -> None:
    """Looks again and again; a refresh that fails is tried again at the next look."""
    while True:
        try:
            await publish_if_due(engine, owner_msp)
        except Exception as error:
            log.warning("numbers_not_refreshed", exc_info=error)
        await asyncio.sleep(LOOK_SECONDS)


async def publish_if_due(engine: AsyncEngine, owner_msp: str) -> bool:
    """Whether the numbers were refreshed now: they had not been since midnight, UTC."""
    last, is_due = await _last_release(engine)
    if is_due:
        began = time.monotonic()
        made = await refresh(engine, owner_msp)
        if made is not None:
            log.info(
                "numbers_refreshed", cells=made.cells, as_of_block=made.as_of_block, seconds=time.monotonic() - began
            )
            last = time.time()
    metrics.RELEASED_AT.set(last)
    return is_due


async def _last_release(engine: AsyncEngine) -> tuple[float, bool]:
    """When the last one was, in seconds since 1970 (0: never), and whether the next is due."""
    midnight = sa.text("date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'")
    last = sa.func.max(release.c.at)
    query = sa.select(sa.func.coalesce(sa.extract("epoch", last), 0.0), sa.func.coalesce(last < midnight, sa.true()))
    async with engine.connect() as connection:
        seconds, is_due = (await connection.execute(query)).one()
    return float(seconds), is_due
