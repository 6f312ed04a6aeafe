"""The projector's wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from emr_common.foundation import database
from emr_common.readiness import Readiness, database_answers
from emr_common.sealing import WrappingKey

from emr_indexer.background import background
from emr_indexer.jobs.replay import Replay
from emr_indexer.jobs.runner import JobRunner
from emr_indexer.jobs.store import JobKind
from emr_indexer.kafka import log_sparsely
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.service import ProjectorService
from emr_indexer.projector.settings import ProjectorSettings


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
        projector = Projector(
            engine,
            settings.org_msp_id,
            WrappingKey.from_file(settings.sealing.wrapping_keyset_file),
            Pseudonyms.from_file(settings.pseudonym.key_file),
            settings.kafka.partitions,
        )
        service = ProjectorService(engine, settings.kafka, projector)
        await stack.enter_async_context(background(service.run(), "projector"))
        jobs = JobRunner(engine, {JobKind.REPLAY: Replay(engine, projector).do})
        await stack.enter_async_context(background(jobs.run(), "jobs"))
        checks = {name: _check(holds) for name, holds in service.checks.items()}
        yield Services(projector, Readiness({"database": database_answers(engine), **checks}))


def _check(holds: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return holds()

    return check
