"""What the page shows, from schema ``published`` alone: nothing here could tell more than anybody may know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

MONTHS = 24
LONGEST_LIST = 10
NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
PURPOSES = {
    "TREAT": "Treatment",
    "ETREAT": "Emergency treatment",
    "COVERAGE": "Coverage",
    "HPAYMT": "Payment",
    "HOPERAT": "Operations",
    "HRESCH": "Research",
    "PATRQT": "Patient's request",
    "PUBHLTH": "Public health",
}


@dataclass(frozen=True)
class Bar:
    """``share`` is of the longest bar, in percent."""

    label: str
    number: int
    share: float
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart with its table: ``id`` in the page, ``unit`` what is counted."""

    id: str
    title: str
    unit: str
    bars: Sequence[Bar]
    is_over_time: bool = False

    @property
    def total(self) -> int:
        return sum(bar.number for bar in self.bars)


@dataclass(frozen=True)
class Numbers:
    """``year`` is the last one of which patients are published; ``refreshed_at`` None before the first release."""

    refreshed_at: datetime | None
    block: int
    year: int | None
    headlines: Sequence[Bar]
    figures: Sequence[Figure]


Refreshed = tuple[datetime | None, int]
"""When, and of which block. As long as it is the same, so are all numbers."""


async def refreshed(engine: AsyncEngine) -> Refreshed:
    async with engine.connect() as connection:
        return await _refreshed(connection)


async def read(engine: AsyncEngine) -> Numbers:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        at, block = await _refreshed(connection)
        year = await connection.scalar(sa.text("select max(year) from published.patients"))
        figures = [
            await _months(connection),
            await _ages(connection, year),
            await _coded(connection, "conditions", "Conditions", year),
            await _coded(connection, "medications", "Medications", year),
            await _purposes(connection),
        ]
        return Numbers(at, block, year, await _headlines(connection), [each for each in figures if each.bars])


async def _refreshed(connection: AsyncConnection) -> Refreshed:
    at, block = (await connection.execute(sa.text("select at, block from published.as_of"))).one()
    return at, block


async def _headlines(connection: AsyncConnection) -> list[Bar]:
    query = """
        select measure, year, sum(number) from published.cube
        where measure in ('visits', 'patients', 'disclosures') and year = (
            select max(year) from published.cube as other where other.measure = cube.measure)
        group by 1, 2 order by array_position(array['visits', 'patients', 'disclosures'], measure)
    """
    words = {"visits": "visits", "patients": "patients", "disclosures": "records read elsewhere"}
    return [Bar(words[row[0]], int(row[2]), 0, f"in {row[1]}") for row in await _rows(connection, query)]


async def _months(connection: AsyncConnection) -> Figure:
    query = f"""
        with last as (select max(year * 12 + month - 1) as month from published.visits),
        shown as (select year * 12 + month - 1 as month, sum(visits) as visits from published.visits
            where month is not null group by 1)
        select each, coalesce(shown.visits, 0) from last
        cross join generate_series(last.month - {MONTHS - 1}, last.month) as each
        left join shown on shown.month = each order by each
    """
    rows = [(f"{NAMES[row[0] % 12]} {row[0] // 12}", int(row[1]), "") for row in await _rows(connection, query)]
    return Figure("visits", "Visits by month", "visits", _bars(rows), is_over_time=True)


async def _ages(connection: AsyncConnection, year: int | None) -> Figure:
    query = """
        select coalesce(age_band, 'not told'), sum(patients) from published.patients where year = :year
        group by age_band order by substring(age_band from '^[0-9]+')::int
    """
    rows = [(row[0], int(row[1]), "") for row in await _rows(connection, query, year=year)]
    return Figure("ages", f"Patients by age, {year}", "patients", _bars(rows))


async def _coded(connection: AsyncConnection, view: str, title: str, year: int | None) -> Figure:
    query = f"""
        select coalesce(display, code), patients, code from published.{view} where year = :year
        order by patients desc, code limit {LONGEST_LIST}
    """
    rows = [(row[0], int(row[1]), row[2]) for row in await _rows(connection, query, year=year)]
    return Figure(view, f"{title}, {year}", "patients", _bars(rows))


async def _purposes(connection: AsyncConnection) -> Figure:
    query = "select purpose, sum(disclosures) from published.disclosures group by 1 order by 2 desc, 1"
    rows = [(PURPOSES.get(row[0], row[0] or "Other"), int(row[1]), "") for row in await _rows(connection, query)]
    return Figure("disclosures", "Why other hospitals read records", "reads", _bars(rows))


def _bars(rows: Sequence[tuple[str, int, str]]) -> list[Bar]:
    longest = max((number for _, number, _ in rows), default=0) or 1
    return [Bar(label, number, round(100 * number / longest, 2), note) for label, number, note in rows]


async def _rows(connection: AsyncConnection, query: str, **values: Any) -> Sequence[Any]:
    return (await connection.execute(sa.text(query), values)).all()
