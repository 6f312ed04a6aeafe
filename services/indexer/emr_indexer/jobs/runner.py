"""Does the jobs, one after the other, in one process of a hospital: the first projector that holds the lock.

A job whose process died is begun again by the next: every kind may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.store import Job, JobKind, JobStore
from emr_indexer.leadership import JOB_LOCK, LeadershipLost, lead
from emr_indexer.postgres import may_pass

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 2.0

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]
Do = Callable[[Job, Tell], Awaitable[Mapping[str, Any]]]
"""Does a job, tells how far it is, and returns its result. Raises JobFailed."""

Beside = Callable[[], Coroutine[Any, Any, Any]]

log = structlog.get_logger(__name__)


class JobFailed(Exception):
    """The job cannot be done; the text is a stable code."""


class JobRunner:
    def __init__(self, engine: AsyncEngine, kinds: Mapping[JobKind, Do], beside: Beside) -> None:
        """``beside`` is what the same process does while it waits for jobs and while it does them."""
        self._engine = engine
        self._store = JobStore(engine)
        self._kinds = kinds
        self._beside = beside

    async def run(self) -> None:
        """Until cancelled. A Postgres that fails is waited for."""
        while True:
            try:
                async with lead(self._engine, JOB_LOCK) as leadership, asyncio.TaskGroup() as group:
                    group.create_task(leadership.watch())
                    group.create_task(self._work())
                    group.create_task(self._beside())
            except* (SQLAlchemyError, LeadershipLost, OSError, TimeoutError) as failures:
                log.warning("jobs_interrupted", exc_info=failures)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _work(self) -> None:
        while True:
            job = await self._store.next()
            if job is None:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await self._do(job)

    async def _do(self, job: Job) -> None:
        async def tell(progress: Mapping[str, Any]) -> None:
            await self._store.tell(job.job_id, progress)

        await self._store.start(job.job_id)
        log.info("job_started", job_id=job.job_id, kind=job.kind.value)
        try:
            result = await self._kinds[job.kind](job, tell)
        except JobFailed as failure:
            await self._store.fail(job.job_id, str(failure))
            log.error("job_failed", job_id=job.job_id, kind=job.kind.value, code=str(failure))
        except Exception as error:
            if may_pass(error):
                raise
            await self._store.fail(job.job_id, "INTERNAL_ERROR")
            log.error("job_failed", job_id=job.job_id, kind=job.kind.value, exc_info=error)
        else:
            await self._store.finish(job.job_id, result)
            log.info("job_done", job_id=job.job_id, kind=job.kind.value)
