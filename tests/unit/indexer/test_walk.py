"""The rows compared with the ledger part by part, all the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_indexer.jobs.comparison import Among, Comparison
from emr_indexer.jobs.parts import PARTS, part_of, pieces
from emr_indexer.jobs.runner import JobRunner
from emr_indexer.jobs.store import JobStore, Verifications, Verified, verified
from emr_indexer.jobs.walk import Pace, Walk
from emr_indexer.projector import store
from emr_model.ledger.values import Event, Life
from hlf.blocks import Block, Checkpoint
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import LedgerWriter, Patient, visit_note
from support.read_model import Hospital, query
from support.rebuilding import Blocks, source, verify

AT_ONCE = Pace(0, 0, 1e6, 1e6, 0, 0)


class StoppingBlocks(Blocks):
    """Stops before a block until it is told to go on; remembers from where it was read."""

    stops_at: int | None = None

    def __init__(self, writer: LedgerWriter) -> None:
        super().__init__(writer)
        self.read: list[int] = []

    async def up_to(self, last: int, after: Checkpoint | None = None) -> AsyncIterator[Block]:
        async for block in super().up_to(last, after):
            self.read.append(block.number)
            if block.number == self.stops_at:
                await asyncio.Event().wait()
            yield block


@pytest.fixture
async def hospital_a(database: AsyncEngine, wrapping: WrappingKey) -> Hospital:
    await store.prepare(database)
    hospital = Hospital(database, wrapping)
    hospital.writer.cut(hospital.writer.register("HospitalA"), hospital.writer.register("HospitalB"))
    return hospital


async def admitted(hospital: Hospital, patients: int) -> list[Patient]:
    found = []
    for _ in range(patients):
        patient, creation = await hospital.admit()
        hospital.writer.cut(creation)
        hospital.writer.cut(hospital.writer.add_note(patient, visit_note()))
        found.append(patient)
    await hospital.project()
    return found


async def walked(hospital: Hospital, walk: Walk | None = None) -> Comparison:
    """Every part once."""
    walk, whole = walk or Walk(hospital.database, source(hospital), AT_ONCE), Comparison()
    for _ in PARTS:
        whole.add(await walk.one_part())
    return whole


async def up_to_the_part_of(hospital: Hospital, patient: Patient) -> None:
    """As if the walk had come that far."""
    nothing = {"rows": 0, "found": 0, "differences": []}
    for part in PARTS[: PARTS.index(part_of(patient.emr_id))]:
        await JobStore(hospital.database).add_part(f"before {part}", part, datetime.now(UTC), nothing)


async def change(hospital: Hospital, statement: str) -> None:
    async with hospital.database.begin() as connection:
        await connection.execute(sa.text(statement))


async def test_every_row_is_compared_once_and_what_differs_is_named(hospital_a: Hospital) -> None:
    patients = await admitted(hospital_a, 12)
    whole = await verify(hospital_a)
    clean = await walked(hospital_a)
    assert (clean.rows, clean.found, clean.differences) == (whole["rows"], 0, [])
    jobs = JobStore(hospital_a.database)
    first = await jobs.verified()
    assert first is not None and first.differences == 0
    await change(hospital_a, f"update care.note set author = 'x' where emr_id = '{patients[0].emr_id}'")
    await change(hospital_a, f"delete from care.condition where emr_id = '{patients[1].emr_id}'")
    await change(hospital_a, "update care.organization set name = 'Nobody' where msp_id = 'HospitalB'")
    await change(hospital_a, "insert into care.ending values ('zz', 'X', 3, 1), ('-', 'X', 3, 1)")
    changed = await walked(hospital_a)
    assert {(each["table"], str(each["key"]), each["wrong"], *each["columns"]) for each in changed.differences} == {
        ("note", str({"emr_id": patients[0].emr_id, "version": 1}), "different", "author"),
        ("condition", str({"emr_id": patients[1].emr_id, "version": 1, "position": 0}), "missing"),
        ("organization", str({"msp_id": "HospitalB"}), "different", "name"),
        ("ending", str({"emr_id": "zz", "recipient_msp": "X"}), "surplus"),
        ("ending", str({"emr_id": "-", "recipient_msp": "X"}), "surplus"),
    }
    again = await jobs.verified()
    assert again is not None and (again.differences, again.at > first.at) == (5, True)
    kept = await query(
        hospital_a.database, "select sum((result->>'found')::int)::int, count(*)::int from hospital.index_job"
    )
    assert kept == [(5, len(PARTS))]


async def test_the_part_at_hand_goes_on_where_it_was_after_a_restart(hospital_a: Hospital) -> None:
    await admitted(hospital_a, 6)
    blocks = StoppingBlocks(hospital_a.writer)
    stopping = source(hospital_a, blocks)
    blocks.stops_at = 9
    first = asyncio.create_task(Walk(hospital_a.database, stopping, Pace(0, 0, 5, 1e6, 0, 0)).one_part())
    while await shadowed(hospital_a, "min(block) from care_walk.position") < 4:
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    blocks.stops_at = None
    blocks.read.clear()
    assert (await Walk(hospital_a.database, stopping, AT_ONCE).one_part()).found == 0
    assert blocks.read[0] >= 5


async def shadowed(hospital: Hospital, what: str) -> int:
    """A number from the walk's shadow; -1 where there is none."""
    try:
        ((found,),) = await query(hospital.database, f"select {what}")
    except sa.exc.ProgrammingError:
        return -1
    return -1 if found is None else int(found)


async def test_an_erasure_takes_content_from_the_half_filled_part_too(hospital_a: Hospital) -> None:
    patients = await admitted(hospital_a, 8)
    await up_to_the_part_of(hospital_a, patients[0])
    blocks = StoppingBlocks(hospital_a.writer)
    stopping = source(hospital_a, blocks)
    blocks.stops_at = await blocks.last() + 1
    hospital_a.writer.cut(hospital_a.writer.add_note(patients[1], visit_note()))
    walking = asyncio.create_task(Walk(hospital_a.database, stopping, Pace(0, 0, 1, 1e6, 0, 0)).one_part())
    content = f"count(content) from care_walk.note where emr_id = '{patients[0].emr_id}'"
    while await shadowed(hospital_a, content) < 1:
        await asyncio.sleep(0.01)
    hospital_a.writer.cut(hospital_a.writer.set_life(patients[0], Life.ERASED, Event.EMR_ERASED))
    await hospital_a.project()
    assert await shadowed(hospital_a, content) == 0
    walking.cancel()
    await asyncio.gather(walking, return_exceptions=True)
    after = await Walk(hospital_a.database, source(hospital_a), AT_ONCE).one_part()
    assert (after.rows > 0, after.differences) == (True, [])


async def test_what_is_written_meanwhile_is_no_difference(hospital_a: Hospital) -> None:
    (patient,) = await admitted(hospital_a, 1)
    await up_to_the_part_of(hospital_a, patient)
    walking = asyncio.create_task(Walk(hospital_a.database, source(hospital_a), AT_ONCE).one_part())
    while not walking.done():
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
        await asyncio.sleep(0.01)
        await hospital_a.projector.project(hospital_a.records()[-20:])
    assert (await walking).differences == []


async def test_a_projector_that_is_behind_is_no_difference(hospital_a: Hospital) -> None:
    (patient,) = await admitted(hospital_a, 1)
    await up_to_the_part_of(hospital_a, patient)
    hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
    assert (await Walk(hospital_a.database, source(hospital_a), AT_ONCE).one_part()).differences == []


async def test_the_walk_goes_on_beside_the_jobs(hospital_a: Hospital) -> None:
    walk = Walk(hospital_a.database, source(hospital_a), AT_ONCE)
    runner = asyncio.create_task(JobRunner(hospital_a.database, {}, walk.run).run())
    jobs = JobStore(hospital_a.database)
    while await jobs.next_part() == PARTS[0]:
        assert not runner.done()
        await asyncio.sleep(0.05)
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)


@given(st.text(max_size=4) | st.text(alphabet=PARTS, min_size=1, max_size=4), st.integers(0, 5000))
def test_every_subject_is_in_one_piece_of_one_part(subject: str, subjects: int) -> None:
    found = [part for part in PARTS for among in pieces(part, subjects) if _holds(among, subject)]
    assert found == [part_of(subject)]


def _holds(among: Among, subject: str) -> bool:
    return among.low <= subject and (among.high is None or subject < among.high)


def _at(hour: int, differences: int = 0) -> Verified:
    return Verified(datetime(2026, 1, 1, hour, tzinfo=UTC), differences)


ALL = {part: _at(3, 1) for part in PARTS}


@pytest.mark.parametrize(
    ("whole", "parts", "expected"),
    [
        (None, {}, None),
        (None, {"a": _at(1)}, None),
        (_at(2, 4), {}, _at(2, 4)),
        (_at(2, 4), {"a": _at(1, 9), "b": _at(3, 1)}, _at(2, 5)),
        (None, ALL, _at(3, 16)),
        (None, {**ALL, "7": _at(1, 0)}, _at(1, 15)),
        (_at(2, 4), ALL, _at(3, 16)),
        (_at(4, 0), ALL, _at(4, 0)),
    ],
)
def test_rows_are_as_verified_as_the_part_that_was_longest_ago(
    whole: Verified | None, parts: Verifications, expected: Any
) -> None:
    assert verified(parts if whole is None else {**parts, None: whole}) == expected
