"""The projector's wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from emr_common.foundation import database
from emr_common.readiness import Readiness, database_answers
from emr_common.sealing import WrappingKey
from emr_common.vital import vital
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.erasures import Erasures
from emr_indexer.jobs.rebuild import Rebuild
from emr_indexer.jobs.replay import Replay
from emr_indexer.jobs.runner import Do, JobRunner, Tell
from emr_indexer.jobs.shadow import Source
from emr_indexer.jobs.store import Job, JobKind
from emr_indexer.jobs.verification import Verification
from emr_indexer.jobs.walk import Pace, Walk
from emr_indexer.kafka import log_sparsely
from emr_indexer.peer import peer_blocks
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.service import ProjectorService
from emr_indexer.projector.settings import ProjectorSettings
from emr_indexer.projector.store import PARTITION_LOCKS
from emr_indexer.relay.facts import BlockReader


@dataclass(frozen=True)
class Services:
    projector: Projector
    readiness: Readiness


@asynccontextmanager
async def bootstrap(settings: ProjectorSettings) -> AsyncIterator[Services]:
    """A running projector. A Kafka or Postgres that is not there does not stop the start: readiness says so."""
    log_sparsely()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(database(settings))
        wrapping = WrappingKey.from_file(settings.sealing.wrapping_keyset_file)
        pseudonyms = Pseudonyms.from_file(settings.pseudonym.key_file)

        def new_projector(engine: AsyncEngine, partitions: int, locks: int) -> Projector:
            return Projector(engine, settings.org_msp_id, wrapping, pseudonyms, partitions, locks)

        projector = new_projector(engine, settings.kafka.partitions, PARTITION_LOCKS)
        service = ProjectorService(engine, settings.kafka, projector)
        await stack.enter_async_context(vital(service.run(), "projector"))
        blocks = await stack.enter_async_context(peer_blocks(settings.org_msp_id, settings.ledger))
        reader = BlockReader(settings.ledger.channel, settings.ledger.chaincode, settings.org_msp_id)
        source = Source(blocks, reader, new_projector)
        erasures = Erasures(
            engine,
            blocks,
            wrapping,
            settings.org_msp_id,
            settings.ledger.chaincode,
            settings.kafka.bootstrap_servers,
            settings.kafka.topics,
        )
        kinds = {
            JobKind.REPLAY: Replay(engine, projector).do,
            JobKind.REBUILD: Rebuild(engine, source, settings.kafka.partitions).do,
            JobKind.VERIFICATION: _verification(Verification(engine, source), erasures),
        }
        jobs = JobRunner(engine, kinds, Walk(engine, source, Pace()).run)
        await stack.enter_async_context(vital(jobs.run(), "jobs"))
        checks = {name: _check(holds) for name, holds in service.checks.items()}
        yield Services(projector, Readiness({"database": database_answers(engine), **checks}))


def _verification(rows: Verification, erasures: Erasures) -> Do:
    async def do(job: Job, tell: Tell) -> Mapping[str, Any]:
        return await (erasures.do if job.argument.get("erased") else rows.do)(job, tell)

    return do


def _check(holds: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return holds()

    return check
