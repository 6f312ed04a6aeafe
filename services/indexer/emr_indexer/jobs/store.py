"""Table ``hospital.index_job``: what is to be done, how far it is, and what came of it. Ids, numbers and codes only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from emr_readmodel.hospital import index_job
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.parts import PARTS

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
    """When rows were last compared with the ledger, and how many differed."""

    at: datetime
    differences: int


Verifications = Mapping[str | None, Verified]
"""Of parts, and of all rows (None)."""


def in_force(done: Verifications) -> Verifications:
    """Those that are the last of some part: one of all rows is one of every part."""
    whole = done.get(None)
    newer = {part: each for part, each in done.items() if whole is None or each.at > whole.at}
    return newer if whole is None or len(newer) == len(PARTS) else {**newer, None: whole}


def verified(done: Verifications) -> Verified | None:
    """When the part that was compared longest ago was, and how many rows differed at each part's last comparison.

    None while some part never was.
    """
    last = in_force(done)
    if None not in last and len(last) < len(PARTS):
        return None
    return Verified(min(each.at for each in last.values()), sum(each.differences for each in last.values()))


_DONE = sa.and_(index_job.c.kind == JobKind.VERIFICATION.value, index_job.c.state == "done")
_FOUND = index_job.c.result["found"].as_integer()
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

    async def verified(self) -> Verified | None:
        """Of rows, not of erasures."""
        return verified(await self._verifications())

    async def next_part(self) -> str:
        """The part that was compared longest ago, or never."""
        last = in_force(await self._verifications())

        def compared_at(part: str) -> float:
            found = last.get(part, last.get(None))
            return 0.0 if found is None else found.at.timestamp()

        return min(PARTS, key=compared_at)

    async def add_part(self, job_id: str, part: str, started_at: datetime, result: Mapping[str, Any]) -> None:
        """What the walk found, as a verification that is done. Of those before, the ones that found something stay."""
        row = {
            "job_id": job_id,
            "kind": JobKind.VERIFICATION.value,
            "argument": {"part": part},
            "requested_by": "indexer",
            "state": "done",
            "result": dict(result),
            "created_at": started_at,
            "started_at": started_at,
            "finished_at": sa.func.now(),
        }
        is_of_part = sa.and_(_DONE, index_job.c.argument["part"].as_string() == part, _FOUND == 0)
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(index_job).where(is_of_part))
            await connection.execute(insert(index_job).values(row))

    async def _verifications(self) -> Verifications:
        """The last of each."""
        part = index_job.c.argument["part"].as_string()
        is_of_rows = index_job.c.argument["erased"].as_boolean().is_not(sa.true())
        query = sa.select(part, index_job.c.finished_at, _FOUND).where(_DONE, is_of_rows).ext(distinct_on(part))
        async with self._engine.connect() as connection:
            found = await connection.execute(query.order_by(part, index_job.c.finished_at.desc()))
            return {row[0]: Verified(row[1], row[2]) for row in found}

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
