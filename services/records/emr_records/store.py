"""Imports, as the records service keeps them in schema ``hospital``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from emr_common.backlogs import require_room
from emr_readmodel.hospital import import_job, import_result
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

UNFINISHED = ("queued", "running")
MOST_UNFINISHED = 100


@dataclass(frozen=True, repr=False)
class ImportJob:
    """``sealed_bundle`` is kept until the job has ended."""

    import_id: str
    emr_id: str
    caller: str
    state: str
    sealed_bundle: bytes | None


@dataclass(frozen=True)
class ImportResult:
    """A note (``note_id``) with its version or a code, or a remark about a ``resource`` with a code."""

    position: int
    note_id: str | None = None
    resource: str | None = None
    version: int | None = None
    code: str | None = None
    transaction_id: str | None = None
    block: int | None = None


class ImportStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, job: ImportJob, remarks: Sequence[ImportResult]) -> None:
        """Accepts a job with what is known of it already. Repeatable. Raises Problem TOO_MANY_REQUESTS when
        MOST_UNFINISHED of the caller's other jobs have not ended.
        """
        columns = import_job.c
        is_open = sa.and_(
            columns.caller == job.caller, columns.finished_at.is_(None), columns.import_id != job.import_id
        )
        row = {name: getattr(job, name) for name in ("import_id", "emr_id", "caller", "state", "sealed_bundle")}
        async with self._engine.begin() as connection:
            await require_room(connection, is_open, MOST_UNFINISHED)
            await connection.execute(insert(import_job).values(row).on_conflict_do_nothing())
            for remark in remarks:
                statement = insert(import_result).values(import_id=job.import_id, **vars(remark))
                await connection.execute(statement.on_conflict_do_nothing())

    async def unfinished(self) -> Sequence[str]:
        """Ids of the jobs that have not ended, oldest first."""
        query = sa.select(import_job.c.import_id).where(import_job.c.finished_at.is_(None))
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query.order_by(import_job.c.created_at)))

    async def find(self, import_id: str) -> ImportJob | None:
        columns = [import_job.c[name] for name in ("import_id", "emr_id", "caller", "state", "sealed_bundle")]
        async with self._engine.connect() as connection:
            query = sa.select(*columns).where(import_job.c.import_id == import_id)
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else ImportJob(*row)

    async def results(self, import_id: str) -> Sequence[ImportResult]:
        """What became of the notes so far, and the remarks, in the order of their positions."""
        names = ("position", "note_id", "resource", "version", "code", "transaction_id", "block")
        query = sa.select(*(import_result.c[name] for name in names)).where(import_result.c.import_id == import_id)
        async with self._engine.connect() as connection:
            return [ImportResult(*row) for row in await connection.execute(query.order_by(import_result.c.position))]

    async def start(self, import_id: str) -> None:
        values = {"state": "running"}
        async with self._engine.begin() as connection:
            await connection.execute(_unfinished_job(import_id).values(values))

    async def settle(self, import_id: str, result: ImportResult) -> None:
        """Keeps what became of a note. Repeatable; the first result stays."""
        statement = insert(import_result).values(import_id=import_id, **vars(result))
        async with self._engine.begin() as connection:
            await connection.execute(statement.on_conflict_do_nothing())

    async def finish(self, import_id: str, state: str) -> None:
        """Ends the job, ``done`` or ``failed``, and drops the bundle."""
        values = {"state": state, "sealed_bundle": None, "finished_at": sa.func.now()}
        async with self._engine.begin() as connection:
            await connection.execute(_unfinished_job(import_id).values(values))


def _unfinished_job(import_id: str) -> sa.Update:
    return sa.update(import_job).where(import_job.c.import_id == import_id, import_job.c.state.in_(UNFINISHED))
