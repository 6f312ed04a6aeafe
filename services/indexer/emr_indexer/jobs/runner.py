"""Does the jobs, one after the other, in one process of a hospital: the first projector that holds the lock.

A job whose process died is begun again by the next: every kind may be repeated.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.store import Job, JobKind, JobStore
from emr_indexer.leadership import JOB_LOCK, LeadershipLost, lead
from emr_indexer.postgres import may_pass

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 2.0
ASK_AGAIN_SECONDS = 600.0
VERIFIED_EVERY = timedelta(hours=6)

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]
Do = Callable[[Job, Tell], Awaitable[Mapping[str, Any]]]
"""Does a job, tells how far it is, and returns its result. Raises JobFailed."""

log = structlog.get_logger(__name__)


class JobFailed(Exception):
    """The job cannot be done; the text is a stable code."""


class JobRunner:
    def __init__(self, engine: AsyncEngine, kinds: Mapping[JobKind, Do]) -> None:
        self._engine = engine
        self._store = JobStore(engine)
        self._kinds = kinds
        self._verifies_from_seconds = time.monotonic() + ASK_AGAIN_SECONDS

    async def run(self) -> None:
        """Until cancelled. A Postgres that fails is waited for."""
        while True:
            try:
                async with lead(self._engine, JOB_LOCK) as leadership, asyncio.TaskGroup() as group:
                    group.create_task(leadership.watch())
                    group.create_task(self._work())
            except* (SQLAlchemyError, LeadershipLost, OSError, TimeoutError) as failures:
                log.warning("jobs_interrupted", exc_info=failures)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _work(self) -> None:
        while True:
            job = await self._store.next()
            if job is None:
                await self._plan_verification()
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await self._do(job)

    async def _plan_verification(self) -> None:
        """Nobody need ask: rows are verified again once the last time is some hours ago. Not right after the start,
        when there is enough to do.
        """
        if JobKind.VERIFICATION not in self._kinds or time.monotonic() < self._verifies_from_seconds:
            return
        self._verifies_from_seconds = time.monotonic() + ASK_AGAIN_SECONDS
        verified = await self._store.last_verification()
        if verified is None or datetime.now(UTC) - verified.at > VERIFIED_EVERY:
            await self._store.add(secrets.token_hex(16), JobKind.VERIFICATION, {"erased": False}, "indexer")

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
