"""What the records service has in Postgres: searches over schema ``care``, imports in schema ``hospital``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from emr_common.parking import refuse_parked
from emr_common.positions import as_of_block
from emr_model.ledger.values import Life
from emr_readmodel.care import condition, emr, medication
from emr_readmodel.hospital import import_job, import_result
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_records.schemas import SearchIn

UNFINISHED = ("queued", "running")
HIT_COLUMNS = ("emr_id", "patient_id", "family_name", "given_names", "birth_date", "sex", "life", "version", "visits")


@dataclass(frozen=True, repr=False)
class Hits:
    """``next`` is the emr_id after which the next page begins, None at the end."""

    rows: Sequence[dict[str, Any]]
    as_of_block: int | None
    next: str | None


class SearchStore:
    def __init__(self, engine: AsyncEngine, msp_id: str) -> None:
        self._engine = engine
        self._msp_id = msp_id

    async def search(self, body: SearchIn) -> Hits:
        """Own EMRs that meet every criterion, in the order of their ids. Raises Problem INDEX_PARKED when one that the
        page may have to show is parked.
        """
        query = (
            sa.select(*(emr.c[name] for name in HIT_COLUMNS))
            .where(emr.c.owner_msp == self._msp_id, emr.c.life != Life.ERASED.value, *_criteria(body))
            .order_by(emr.c.emr_id)
            .limit(body.limit + 1)
        )
        if body.after is not None:
            query = query.where(emr.c.emr_id > body.after)
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            block = await as_of_block(connection)
            rows = [dict(row) for row in (await connection.execute(query)).mappings()]
            await refuse_parked(connection, self._may_show(body, rows))
        more = len(rows) > body.limit
        return Hits(rows[: body.limit], block, rows[body.limit - 1]["emr_id"] if more else None)

    def _may_show(self, body: SearchIn, rows: Sequence[dict[str, Any]]) -> sa.Select[Any]:
        """EMRs of the page's range that fit the person sought: a parked one's notes may say anything."""
        query = sa.select(emr.c.emr_id).where(emr.c.owner_msp == self._msp_id, emr.c.life != Life.ERASED.value)
        query = query.where(*_about_the_person(body))
        if body.after is not None:
            query = query.where(emr.c.emr_id > body.after)
        return query.where(emr.c.emr_id <= rows[-1]["emr_id"]) if len(rows) > body.limit else query


def _criteria(body: SearchIn) -> Iterable[sa.ColumnElement[bool]]:
    yield from _about_the_person(body)
    for table, code in ((condition, body.condition_code), (medication, body.medication_code)):
        if code is not None:
            yield sa.exists().where(table.c.emr_id == emr.c.emr_id, table.c.code == code)


def _about_the_person(body: SearchIn) -> Iterable[sa.ColumnElement[bool]]:
    if body.family_name is not None:
        yield sa.func.lower(emr.c.family_name).startswith(body.family_name.lower(), autoescape=True)
    if body.given_name is not None:
        yield sa.func.lower(emr.c.given_names).startswith(body.given_name.lower(), autoescape=True)
    if body.birth_date is not None:
        yield emr.c.birth_date == body.birth_date
    if body.sex is not None:
        yield emr.c.sex == body.sex


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
        """Accepts a job with what is known of it already. Repeatable."""
        row = {name: getattr(job, name) for name in ("import_id", "emr_id", "caller", "state", "sealed_bundle")}
        async with self._engine.begin() as connection:
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
