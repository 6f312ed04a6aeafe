"""Refreshes the published numbers, so that no difference between any of them stands for fewer than eleven patients.

A number is published as the sum of what releases added to it. A release adds to a cell all facts of that cell that were
never counted before, if they are about ``FEWEST`` patients or more and their number, rounded to ``STEP``, is that large
too; otherwise they wait for the next release. What was added is never changed. So

- every cell, every total of cells, every difference between two days of either, and between a total and its parts, is a
  sum of such additions: nothing, or 15 and more, and about eleven patients or more;
- there is no total beside the cells, whose difference to them would show what was suppressed.

When a period has ended and its facts have been on the ledger for ``SETTLED_DAYS``, those that are still too few are
counted together, with one dimension fewer each time. Of measures of patients (those with a condition, say) the rest of
the year's patients is a cell too: nothing is added that would leave that rest under ``FEWEST``, in truth or as shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_readmodel.care import emr, position
from emr_readmodel.engine import patient
from emr_readmodel.hospital import release, released_fact
from emr_readmodel.measures import MEASURES, Measure

FEWEST = 11
STEP = 5
SETTLED_DAYS = 60
RELEASE_LOCK = 0x454D5205


_OF_ALL_ROWS = sa.text("set local enable_nestloop = off")
"""Facts never counted are all of them or hardly any. Postgres expects a few, and would compare all with all."""


@dataclass(frozen=True)
class Release:
    """``cells`` is how many additions the release made."""

    id: int
    as_of_block: int
    cells: int


async def refresh(engine: AsyncEngine, owner_msp: str) -> Release | None:
    """Makes a release of the rows as they stand, in one transaction; None before the read model has a block.

    Whenever and however often it runs, the numbers keep what the module says of them.
    """
    async with patient(engine) as own, own.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await connection.execute(_OF_ALL_ROWS)
            return await _refresh(connection, owner_msp)


async def _refresh(connection: AsyncConnection, owner_msp: str) -> Release | None:
    if not await connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(RELEASE_LOCK))):
        return None
    as_of_block = await connection.scalar(sa.select(sa.func.min(position.c.block)))
    if as_of_block is None or as_of_block < 0:
        return None
    await _forget_erased(connection)
    made = sa.insert(release).values(as_of_block=as_of_block).returning(release.c.id)
    release_id = (await connection.execute(made)).scalar_one()
    cells = 0
    for statement in _statements():
        cells += (await connection.execute(statement, {"owner_msp": owner_msp, "release_id": release_id})).scalar_one()
    return Release(release_id, as_of_block, cells)


async def _forget_erased(connection: AsyncConnection) -> None:
    """Their facts are gone from ``care``, so they cannot be counted again."""
    erased = sa.select(emr.c.emr_id).where(emr.c.life == "erased")
    await connection.execute(sa.delete(released_fact).where(released_fact.c.emr_id.in_(erased)))


def _statements() -> Iterator[sa.TextClause]:
    for measure in MEASURES:
        yield _addition(measure, measure.dimensions, settled=False)
        for kept in reversed(range(len(measure.dimensions) if measure.gives_up else 0)):
            yield _addition(measure, measure.dimensions[:kept], settled=True)


def _addition(measure: Measure, kept: tuple[str, ...], *, settled: bool) -> sa.TextClause:
    """One statement that counts what waits, by the dimensions ``kept``, and marks what it counted; it answers the
    number of cells. Identifiers are this package's own; values are bound.
    """
    unit = ", ".join(("occurrence.emr_id", "occurrence.year", *(f"occurrence.{name}" for name in measure.unit)))
    told = "".join(f", {_first(name)} as {name}" for name in (*measure.dimensions, "display"))
    columns = ", ".join(("year", *kept))
    words = "words.display" if kept == measure.dimensions else "null::text as display"
    same = " and ".join(f"fact.{name} = chosen.{name}" for name in ("year", *kept))
    return sa.text(
        f"""
        with occurrence as ({measure.occurrences}),
        fact as (
            select occurrence.emr_id, occurrence.year, {_first("ref")} as ref {told}
            from occurrence left join hospital.released_fact as counted
                on counted.measure = '{measure.name}' and counted.emr_id = occurrence.emr_id
                and counted.ref = occurrence.ref
            group by {unit}
            having count(counted.ref) = 0 {_SETTLED if settled else ""}
        ),
        cell as (
            select {columns}, count(distinct emr_id) as patients, (count(*) + {STEP // 2}) / {STEP} * {STEP} as number
            from fact group by {columns}
        ),
        words as (
            select distinct on ({columns}) {columns}, display from fact where display is not null
            group by {columns}, display having count(distinct emr_id) >= {FEWEST}
            order by {columns}, count(distinct emr_id) desc, display
        ),
        {_REST if measure.is_of_patients else ""}
        chosen as (
            select cell.*, {words} from cell left join words using ({columns})
            where cell.patients >= {FEWEST} and cell.number >= {FEWEST}
                {f"and ({columns}) in (select {columns} from others)" if measure.is_of_patients else ""}
        ),
        added as (
            insert into hospital.release_cell (release_id, measure, {columns}, display, number)
            select :release_id, '{measure.name}', {columns}, display, number from chosen
        ),
        marked as (
            insert into hospital.released_fact (measure, emr_id, ref)
            select '{measure.name}', fact.emr_id, fact.ref from fact join chosen on {same}
        )
        select count(*) from chosen
        """.replace(":measure", f"'{measure.name}'")
    )


def _first(name: str) -> str:
    return f"(array_agg(occurrence.{name} order by occurrence.place, occurrence.ref))[1]"


_SETTLED = f"""
    and max(occurrence.period_end) <= (now() - interval '{SETTLED_DAYS} days')::date
    and min(occurrence.noted_at) <= now() - interval '{SETTLED_DAYS} days'
"""

_REST = f"""
    noted as (
        select date_part('year', month)::int as year, count(distinct emr_id) as patients
        from care.note where month is not null group by 1
    ),
    having_it as (
        select year, system, code, count(distinct emr_id) as patients from occurrence group by year, system, code
    ),
    shown as (
        select year, sum(number) as number from hospital.release_cell where measure = 'patients' group by year
    ),
    shown_having_it as (
        select year, system, code, sum(number) as number from hospital.release_cell where measure = :measure
        group by year, system, code
    ),
    others as (
        select cell.year, system, code from cell join noted using (year) join having_it using (year, system, code)
            left join shown using (year) left join shown_having_it using (year, system, code)
        where {FEWEST} <= noted.patients - having_it.patients
            and {FEWEST} <= coalesce(shown.number, 0) - cell.number - coalesce(shown_having_it.number, 0)
    ),
"""
"""The year's patients who are not in the cell: as they are, and as the numbers will show them."""
