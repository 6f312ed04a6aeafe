"""Table ``hospital.index_job``: what is to be done, how far it is, and what came of it. Ids, numbers and codes only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from emr_readmodel.hospital import index_job
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

UNFINISHED = ("queued", "running")


class JobKind(StrEnum):
    REPLAY = "replay"
    REBUILD = "rebuild"
    VERIFICATION = "verification"


@dataclass(frozen=True)
class Job:
    """``progress`` and ``result`` depend on the kind; ``code`` says why the job failed."""

    job_id: str
    kind: JobKind
    argument: Mapping[str, Any]
    state: str
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    code: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class Verified:
    """When the rows were last compared with the ledger, and how many differed."""

    at: datetime
    differences: int


_COLUMNS = [index_job.c[name] for name in Job.__dataclass_fields__]


class JobStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, job_id: str, kind: JobKind, argument: Mapping[str, Any], requested_by: str) -> None:
        """Repeatable."""
        row = {"job_id": job_id, "kind": kind.value, "argument": dict(argument), "requested_by": requested_by}
        async with self._engine.begin() as connection:
            await connection.execute(insert(index_job).values(row).on_conflict_do_nothing())

    async def find(self, job_id: str) -> Job | None:
        return await self._first(sa.select(*_COLUMNS).where(index_job.c.job_id == job_id))

    async def next(self) -> Job | None:
        """The oldest that has not ended. One that runs already was left by a process that died."""
        query = sa.select(*_COLUMNS).where(index_job.c.state.in_(UNFINISHED))
        return await self._first(query.order_by(index_job.c.created_at, index_job.c.job_id).limit(1))

    async def last_verification(self) -> Verified | None:
        """Of rows, not of erasures."""
        is_of_rows = index_job.c.argument["erased"].as_boolean().is_not(sa.true())
        done = sa.and_(index_job.c.kind == JobKind.VERIFICATION.value, index_job.c.state == "done", is_of_rows)
        found = index_job.c.result["found"].as_integer()
        query = sa.select(index_job.c.finished_at, found).where(done).order_by(index_job.c.finished_at.desc()).limit(1)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Verified(*row)

    async def _first(self, query: sa.Select[Any]) -> Job | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Job(row[0], JobKind(row[1]), *row[2:])

    async def start(self, job_id: str) -> None:
        await self._set(job_id, state="running", started_at=sa.func.coalesce(index_job.c.started_at, sa.func.now()))

    async def tell(self, job_id: str, progress: Mapping[str, Any]) -> None:
        await self._set(job_id, progress=dict(progress))

    async def finish(self, job_id: str, result: Mapping[str, Any]) -> None:
        await self._set(job_id, state="done", result=dict(result), finished_at=sa.func.now())

    async def fail(self, job_id: str, code: str) -> None:
        await self._set(job_id, state="failed", code=code, finished_at=sa.func.now())

    async def _set(self, job_id: str, **values: Any) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(sa.update(index_job).where(index_job.c.job_id == job_id).values(values))
