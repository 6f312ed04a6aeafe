"""The published numbers, day after day, as somebody sees them who keeps every day's and subtracts what can be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import combinations, pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from emr_readmodel import care, engine, hospital, migrate
from emr_readmodel.measures import MEASURES
from emr_readmodel.releases import FEWEST, RELEASE_LOCK, refresh
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from support.care_rows import LONG_AGO, OWNER, add, at_block, coded, disclosure, empty, emr, note, pseudonym
from support.postgres import PostgresServer, empty_database

ENDED, OPEN = 2001, 2999
DIMENSIONS = ("month", "encounter_class", "encounter_type", "age_band", "sex", "system", "code", "purpose")
TOLD = {measure.name: measure.dimensions for measure in MEASURES}
BIRTHS = {"0": date(1990, 1, 1), "1": date(1900, 1, 1)}
SEXES = {"0": "female", "1": "male"}

Cell = tuple[Any, ...]
Day = Mapping[Cell, int]


@dataclass(frozen=True)
class Group:
    """Visits of the patients ``first`` to ``first + count``, one each, all alike."""

    first: int
    count: int
    year: int
    type: str
    code: str
    is_new: bool


groups = st.builds(
    Group,
    first=st.integers(0, 40),
    count=st.integers(1, 32),
    year=st.sampled_from([ENDED, OPEN]),
    type=st.sampled_from("ab"),
    code=st.sampled_from("xy"),
    is_new=st.booleans(),
)
erasures = st.lists(st.integers(0, 72), max_size=3)
days = st.lists(st.tuples(st.lists(groups, max_size=4), erasures), min_size=2, max_size=4)


@pytest.fixture(scope="module")
async def pool(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        pool = engine.create(url, 5)
        yield pool
        await pool.dispose()


@dataclass
class Story:
    """What the hospital knows: each note's group by its EMR and version, and which facts each day has published."""

    pool: AsyncEngine
    notes: dict[tuple[str, int], Group] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    published: set[tuple[str, str, str]] = field(default_factory=set)

    async def begin(self) -> None:
        async with self.pool.begin() as connection:
            tables = (care.emr, care.note, care.condition, care.pseudonym, care.disclosure)
            await empty(connection, *tables, hospital.release, hospital.release_cell, hospital.released_fact)
            await at_block(connection, 7)

    async def day(self, added: list[Group], erased: list[int]) -> Day:
        for group in added:
            await self._add(group)
        for number in erased:
            await self._erase(f"{number:02}")
        await refresh(self.pool, OWNER)
        return await cube(self.pool)

    async def _add(self, group: Group) -> None:
        emrs, notes, conditions, pseudonyms = [], [], [], []
        known = {emr_id for emr_id, _ in self.notes}
        years = {(emr_id, each.year) for (emr_id, _), each in self.notes.items()}
        for number in range(group.first, group.first + group.count):
            emr_id = f"{number:02}"
            if emr_id in self.erased:
                continue
            version = 1 + sum(each == emr_id for each, _ in self.notes)
            if emr_id not in known:
                emrs.append(
                    emr(emr_id, birth_date=BIRTHS[emr_id[-1]] if emr_id[-1] in "01" else None, sex=_sex(emr_id))
                )
            if (emr_id, group.year) not in years:
                pseudonyms.append(pseudonym(emr_id, group.year))
            at = datetime.now(UTC) if group.is_new else LONG_AGO
            more = {"encounter_type": group.type, "encounter_type_display": f"Type {group.type}", "at": at}
            notes.append(note(emr_id, version, date(group.year, 3, 1), **more))
            conditions.append(coded(emr_id, version, 0, group.code))
            self.notes[emr_id, version] = group
        async with self.pool.begin() as connection:
            for table, rows in (
                (care.emr, emrs),
                (care.note, notes),
                (care.condition, conditions),
                (care.pseudonym, pseudonyms),
            ):
                await add(connection, table, rows)

    async def _erase(self, emr_id: str) -> None:
        self.erased.add(emr_id)
        content = dict.fromkeys(("kind", "period_start", "month", "encounter_class", "encounter_type", "content"))
        async with self.pool.begin() as connection:
            await connection.execute(sa.update(care.emr).where(care.emr.c.emr_id == emr_id).values(life="erased"))
            await connection.execute(sa.update(care.note).where(care.note.c.emr_id == emr_id).values(content))
            for table in (care.condition, care.pseudonym):
                await connection.execute(sa.delete(table).where(table.c.emr_id == emr_id))

    async def newly_published(self) -> list[tuple[str, str, Group]]:
        """Measure, EMR and group of every fact that the last day has added to the numbers."""
        columns = (hospital.released_fact.c.measure, hospital.released_fact.c.emr_id, hospital.released_fact.c.ref)
        async with self.pool.connect() as connection:
            now = {tuple(row) for row in await connection.execute(sa.select(*columns))}
        new = now - self.published
        self.published = now
        return [(measure, emr_id, self.notes[emr_id, int(ref.partition("/")[0])]) for measure, emr_id, ref in new]


def _sex(emr_id: str) -> str | None:
    return SEXES.get(emr_id[0])


async def cube(pool: AsyncEngine) -> Day:
    columns = ", ".join(("measure", "year", *DIMENSIONS))
    async with pool.connect() as connection:
        found = await connection.execute(sa.text(f"select {columns}, number from published.cube"))
        return {tuple(row[:-1]): row[-1] for row in found}


def totals(day: Day) -> Day:
    """Every cell, and every sum of cells over any of their measure's dimensions."""
    found: Counter[Cell] = Counter()
    for (measure, year, *words), number in day.items():
        told = TOLD[measure]
        for size in range(len(told) + 1):
            for summed in combinations(told, size):
                kept = ("*" if name in summed else word for name, word in zip(DIMENSIONS, words, strict=True))
                found[measure, year, *kept] += number
    return found


def is_safe(difference: int) -> bool:
    return difference == 0 or difference >= FEWEST


def seen_by_an_attacker(seen: list[Day]) -> Iterator[tuple[str, int]]:
    """What any two days' numbers, and a total and its parts, differ by."""
    summed = [totals(day) for day in seen]
    for later, after in enumerate(summed):
        for before in summed[:later]:
            yield from (("between days", after[each] - before.get(each, 0)) for each in after.keys() | before.keys())
        for day in seen[: later + 1]:
            for total, number in after.items():
                parts = [value for cell, value in day.items() if _is_part(cell, total)]
                yield from (("total without a part", number - part) for part in parts)
                yield from (("total without the others", number - sum(parts) + part) for part in parts)


def _is_part(cell: Cell, total: Cell) -> bool:
    return all(there in (here, "*") for here, there in zip(cell, total, strict=True))


@given(story=days)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # shrinking would begin a database anew hundreds of times
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_difference_of_published_numbers_stands_for_fewer_than_eleven_patients(
    pool: AsyncEngine, story: list[tuple[list[Group], list[int]]]
) -> None:
    told = Story(pool)
    await told.begin()
    seen: list[Day] = [{}]
    for added, erased in story:
        seen.append(await told.day(added, erased))
        _behind_each_addition_are_eleven(await told.newly_published(), seen[-2], seen[-1])
        _the_rest_of_the_patients_are_eleven(told, seen[-1])
    assert [(how, value) for how, value in seen_by_an_attacker(seen) if not is_safe(value)] == []
    event(f"days with news: {sum(bool(after != before) for before, after in pairwise(seen))}")


def _behind_each_addition_are_eleven(facts: list[tuple[str, str, Group]], before: Day, after: Day) -> None:
    """A measure's additions of a year are together what its marked facts are, and none stands for too few."""
    for measure, year in {(cell[0], cell[1]) for cell in after}:
        cells = [cell for cell in after if cell[:2] == (measure, year)]
        grown = [after[cell] - before.get(cell, 0) for cell in cells]
        behind = [emr_id for name, emr_id, group in facts if (name, group.year) == (measure, year)]
        news = [each for each in grown if each]
        assert len(set(behind)) >= FEWEST or not news
        assert abs(sum(news) - len(behind)) <= 2 * len(news)
    for measure, word, position in (("visits", "type", 4), ("conditions", "code", 8)):
        for name in {getattr(group, word) for _, _, group in facts}:
            for year in (ENDED, OPEN):
                behind = [e for m, e, g in facts if (m, getattr(g, word), g.year) == (measure, name, year)]
                grown = [
                    after[cell] - before.get(cell, 0)
                    for cell in after
                    if cell[:2] == (measure, year) and cell[position] == name
                ]
                if any(grown):
                    assert len(set(behind)) >= FEWEST


def _the_rest_of_the_patients_are_eleven(told: Story, day: Day) -> None:
    """Who of the year's patients does not have a published condition: in truth, and as the numbers look."""
    for cell, number in day.items():
        if cell[0] == "conditions":
            year, code = cell[1], cell[8]
            patients = sum(value for other, value in day.items() if other[:2] == ("patients", year))
            assert patients - number >= FEWEST
            if not told.erased:
                everyone = {emr_id for (emr_id, _), each in told.notes.items() if each.year == year}
                counted = {
                    emr_id
                    for measure, emr_id, ref in told.published
                    if measure == "conditions"
                    and told.notes[emr_id, int(ref.partition("/")[0])].code == code
                    and told.notes[emr_id, int(ref.partition("/")[0])].year == year
                }
                assert len(everyone - counted) >= FEWEST


async def _visits(pool: AsyncEngine, patients: range, **more: Any) -> None:
    async with pool.begin() as connection:
        month = more.pop("month", date(OPEN, 3, 1))
        ids = [f"{number:03}" for number in patients]
        await add(connection, care.emr, [emr(each) for each in ids])
        await add(connection, care.note, [note(each, 1, month, **more) for each in ids])
        await add(connection, care.pseudonym, [pseudonym(each, month.year) for each in ids])


@pytest.fixture
async def empty_pool(pool: AsyncEngine) -> AsyncEngine:
    await Story(pool).begin()
    return pool


async def _numbers(pool: AsyncEngine, view: str) -> list[tuple[Any, ...]]:
    async with pool.connect() as connection:
        return [
            tuple(row) for row in await connection.execute(sa.text(f"select * from published.{view} order by 1, 2, 3"))
        ]


async def test_facts_wait_until_they_are_enough_and_are_counted_once(empty_pool: AsyncEngine) -> None:
    await _visits(empty_pool, range(12))
    assert (await refresh(empty_pool, OWNER)) is not None
    assert await _numbers(empty_pool, "visits") == []
    await _visits(empty_pool, range(12, 14))
    await refresh(empty_pool, OWNER)
    first = await _numbers(empty_pool, "visits")
    assert first == [(OPEN, 3, "AMB", "185345009", "Encounter for symptom", 15)]
    await _visits(empty_pool, range(14, 24))
    for _ in range(2):
        await refresh(empty_pool, OWNER)
        assert await _numbers(empty_pool, "visits") == first
    await _visits(empty_pool, range(24, 28))
    await refresh(empty_pool, OWNER)
    assert [row[-1] for row in await _numbers(empty_pool, "visits")] == [30]


async def test_many_visits_of_few_patients_are_not_published(empty_pool: AsyncEngine) -> None:
    await _visits(empty_pool, range(10))
    async with empty_pool.begin() as connection:
        more = [note(f"{number:03}", version, date(OPEN, 3, 1)) for number in range(10) for version in range(2, 6)]
        await add(connection, care.note, more)
    await refresh(empty_pool, OWNER)
    assert await _numbers(empty_pool, "cube") == []


async def test_what_stays_too_few_is_told_with_fewer_words_once_its_time_is_over(empty_pool: AsyncEngine) -> None:
    month = date(ENDED, 3, 1)
    await _visits(empty_pool, range(8), month=month, encounter_type="a")
    await _visits(empty_pool, range(8, 16), month=month, encounter_type="b")
    await refresh(empty_pool, OWNER)
    assert await _numbers(empty_pool, "visits") == [(ENDED, 3, "AMB", None, None, 15)]
    await _visits(empty_pool, range(20, 36), month=month, encounter_type="c", at=datetime.now(UTC))
    await _visits(empty_pool, range(40, 52), month=month, encounter_type="d", at=datetime.now(UTC))
    await refresh(empty_pool, OWNER)
    found = await _numbers(empty_pool, "visits")
    assert sorted(found, key=str) == [
        (ENDED, 3, "AMB", "c", "Encounter for symptom", 15),
        (ENDED, 3, "AMB", None, None, 15),
    ]


async def test_words_that_few_patients_notes_use_are_not_published(empty_pool: AsyncEngine) -> None:
    await _visits(empty_pool, range(10), encounter_type_display="Mrs Lovelace's visit")
    await _visits(empty_pool, range(10, 20))
    await refresh(empty_pool, OWNER)
    assert [row[-2:] for row in await _numbers(empty_pool, "visits")] == [(None, 20)]


async def test_an_erasure_changes_no_published_number(empty_pool: AsyncEngine) -> None:
    await _visits(empty_pool, range(20))
    await refresh(empty_pool, OWNER)
    before = await _numbers(empty_pool, "cube")
    story = Story(empty_pool)
    await story._erase("003")
    await refresh(empty_pool, OWNER)
    assert await _numbers(empty_pool, "cube") == before != []
    async with empty_pool.connect() as connection:
        left = sa.select(sa.func.count()).where(hospital.released_fact.c.emr_id == "003")
        assert await connection.scalar(left) == 0


async def test_only_reads_of_own_emrs_are_published(empty_pool: AsyncEngine) -> None:
    await _visits(empty_pool, range(30))
    async with empty_pool.begin() as connection:
        own = [disclosure(f"{number:03}", number) for number in range(14)]
        others = [disclosure(f"{number:03}", number, owner_msp="HospitalB") for number in range(14, 30)]
        await add(connection, care.disclosure, own + others)
    await refresh(empty_pool, OWNER)
    assert await _numbers(empty_pool, "disclosures") == [(2002, "TREAT", 15)]


async def test_a_read_model_without_a_block_makes_no_release(empty_pool: AsyncEngine) -> None:
    async with empty_pool.begin() as connection:
        await at_block(connection, -1)
    assert await refresh(empty_pool, OWNER) is None


async def test_two_refreshes_at_once_count_nothing_twice(empty_pool: AsyncEngine) -> None:
    await _visits(empty_pool, range(20))
    await asyncio.gather(*(refresh(empty_pool, OWNER) for _ in range(4)))
    assert [row[-1] for row in await _numbers(empty_pool, "visits")] == [20]
    async with empty_pool.begin() as connection:
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(RELEASE_LOCK)))
        assert await refresh(empty_pool, OWNER) is None
