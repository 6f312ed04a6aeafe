"""All the wiring of the indexer's API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog
from emr_common.auth import Authenticator
from emr_common.chores import Chore, chores
from emr_common.foundation import foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.positions import Positions
from emr_common.readiness import Readiness
from emr_common.vital import vital
from emr_readmodel import readers
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer import handlers, metrics
from emr_indexer.jobs.store import JobStore
from emr_indexer.publishing import publish_daily
from emr_indexer.settings import IndexerSettings
from emr_indexer.store import IndexStore

MEASURE_SECONDS = 2.0
READERS_SECONDS = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Services:
    msp_id: str
    engine: AsyncEngine
    ledger: Ledger
    store: IndexStore
    positions: Positions
    jobs: JobStore
    idempotency: Idempotency
    authenticator: Authenticator
    readiness: Readiness


@asynccontextmanager
async def bootstrap(settings: IndexerSettings) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(foundation(settings))
        store, jobs = IndexStore(base.engine), JobStore(base.engine)
        await stack.enter_async_context(vital(_measure(store, jobs, base.ledger), "measuring the lag"))
        publishing = publish_daily(base.engine, settings.org_msp_id)
        await stack.enter_async_context(vital(publishing, "publishing numbers"))
        end_long_reads = partial(readers.end_long_reads, base.engine, readers.LONGEST_SECONDS)
        await stack.enter_async_context(chores(base.engine, Chore("long reads", READERS_SECONDS, end_long_reads)))
        yield Services(
            msp_id=settings.org_msp_id,
            engine=base.engine,
            ledger=base.ledger,
            store=store,
            positions=base.positions,
            jobs=jobs,
            idempotency=base.idempotency,
            authenticator=base.authenticator,
            readiness=base.readiness,
        )


async def _measure(store: IndexStore, jobs: JobStore, ledger: Ledger) -> None:
    """Keeps the gauges; while Postgres does not answer they stay as they were, and readiness says why."""
    while True:
        try:
            position = await handlers.position(store, ledger.tracker.height)
            metrics.LAG_BLOCKS.set(position.lag_blocks)
            metrics.LAG_SECONDS.set(handlers.lag_seconds(position, datetime.now(UTC)))
            metrics.AS_OF_BLOCK.set(position.as_of_block)
            metrics.LEDGER_BLOCK.set(position.ledger_block)
            metrics.STOPPED_PARTITIONS.set(sum(each.stopped for each in position.partitions))
            metrics.PARKED_EMRS.set(position.parked_emrs)
            if (verified := await jobs.verified()) is not None:
                metrics.VERIFIED_AT.set(verified.at.timestamp())
                metrics.DIFFERENCES.set(verified.differences)
        except Exception as error:
            log.warning("lag_unknown", exc_info=error)
        await asyncio.sleep(MEASURE_SECONDS)
