"""Whether every row is what the ledger says: the ledger's blocks are projected anew beside them, and compared.

On the way each content's sha256 and commitment are computed again from the peer's bytes; nothing is taken from rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import structlog
from emr_readmodel import care
from emr_readmodel.shadows import VERIFY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_indexer.jobs.runner import Tell
from emr_indexer.jobs.shadow import Shadow, Source
from emr_indexer.jobs.store import Job

COMPARED = (
    care.organization,
    care.emr,
    care.note,
    care.condition,
    care.medication,
    care.pseudonym,
    care.sharing,
    care.ending,
    care.disclosure,
    care.emr_position,
)
MOST_NAMED = 1000
ATTEMPTS = 5
WAIT_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass
class Comparison:
    """``differences`` name table, key, what is wrong (missing, surplus or different) and in which columns."""

    rows: int = 0
    found: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    moving: set[str] = field(default_factory=set)


class Verification:
    def __init__(self, engine: AsyncEngine, source: Source) -> None:
        self._engine = engine
        self._source = source

    async def do(self, job: Job, tell: Tell) -> Mapping[str, Any]:
        """``rows`` compared, ``differences`` and how many, up to which ``block``, how many EMRs are ``parked``."""
        shadow = Shadow(self._engine, self._source, VERIFY)
        try:
            await shadow.make()
            return await self._verify(shadow, tell)
        finally:
            await shadow.drop()

    async def _verify(self, shadow: Shadow, tell: Tell) -> Mapping[str, Any]:
        """What moves meanwhile is compared once both sides are at the same event."""
        comparison = Comparison()
        subjects: Collection[str] | None = None
        for attempt in range(ATTEMPTS):
            last = await self._source.blocks.last()

            async def told(block: int, last: int = last) -> None:
                await tell({"block": block, "lastBlock": last})

            await shadow.fill(last, told)
            await self._compare(comparison, subjects, is_last=attempt == ATTEMPTS - 1)
            if not comparison.moving:
                break
            subjects = frozenset(comparison.moving)
            await asyncio.sleep(WAIT_SECONDS)
        if comparison.found:
            log.critical("rows_differ_from_ledger", differences=comparison.found)
        async with self._engine.connect() as connection:
            parked = await connection.scalar(sa.select(sa.func.count()).select_from(care.parked))
        result = {"rows": comparison.rows, "found": comparison.found, "differences": comparison.differences}
        return {**result, "block": shadow.block, "parked": parked}

    async def _compare(self, comparison: Comparison, subjects: Collection[str] | None, *, is_last: bool) -> None:
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            comparison.moving = set() if is_last else await _moving(connection, subjects)
            for table in COMPARED:
                await _compare_table(connection, table, subjects, comparison)


async def _moving(connection: AsyncConnection, subjects: Collection[str] | None) -> set[str]:
    """Subjects of which one side has seen more than the other."""
    query = f"""
        select coalesce(a.emr_id, b.emr_id) from care.emr_position a full join {VERIFY}.emr_position b using (emr_id)
        where (a.block, a.tx, a.write) is distinct from (b.block, b.tx, b.write)
          and (cast(:subjects as text[]) is null or coalesce(a.emr_id, b.emr_id) = any(:subjects))
    """  # noqa: S608 - names of tables and columns
    given = None if subjects is None else list(subjects)
    return set(await connection.scalars(sa.text(query), {"subjects": given}))


def _subject(table: sa.Table, side: str) -> str:
    return f"'org:' || {side}.msp_id" if table is care.organization else f"{side}.emr_id"


async def _compare_table(
    connection: AsyncConnection, table: sa.Table, subjects: Collection[str] | None, comparison: Comparison
) -> None:
    keys = [column.name for column in table.primary_key]
    compared = ", ".join(f'"{column.name}"' for column in table.columns if column.name != "late_block")
    key = ", ".join(f'\'{name}\', coalesce(to_jsonb(a."{name}"), to_jsonb(b."{name}"))' for name in keys)
    subject = f"coalesce({_subject(table, 'a')}, {_subject(table, 'b')})"
    among = f"""not ({subject} = any(:moving)) and (cast(:subjects as text[]) is null or {subject} = any(:subjects))"""
    sides = f"""(select {compared} from care.{table.name}) a
        full join (select {compared} from {VERIFY}.{table.name}) b using ({", ".join(f'"{name}"' for name in keys)})"""  # noqa: S608
    given = {"moving": list(comparison.moving), "subjects": None if subjects is None else list(subjects)}
    absent = " and ".join(f'{{side}}."{name}" is null' for name in keys)
    query = f"""
        select jsonb_build_object({key}) as key,
            case when {absent.format(side="a")} then 'missing' when {absent.format(side="b")} then 'surplus'
                else 'different' end as wrong,
            array(select l.key from jsonb_each(to_jsonb(a)) l join jsonb_each(to_jsonb(b)) r using (key)
                where l.value is distinct from r.value) as columns,
            count(*) over () as found
        from {sides} where a is distinct from b and {among} limit {MOST_NAMED}
    """  # noqa: S608
    rows = (await connection.execute(sa.text(query), given)).mappings().all()
    comparison.found += rows[0]["found"] if rows else 0
    for row in rows[: MOST_NAMED - len(comparison.differences)]:
        named = {"table": table.name, "key": row["key"], "wrong": row["wrong"]}
        comparison.differences.append({**named, "columns": sorted(row["columns"])})
    counted = f"select count(*) from care.{table.name} a where {among.replace(subject, _subject(table, 'a'))}"  # noqa: S608
    comparison.rows += (await connection.scalars(sa.text(counted), given)).one()
