"""An event that cannot be projected parks its EMR: what is about it waits, in order, and everyone else goes on."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.parking import has_other_owner, has_owner, parked_among
from emr_common.sealing import WrappingKey
from emr_indexer.jobs.replay import Replay
from emr_indexer.jobs.runner import JobFailed
from emr_indexer.jobs.store import Job, JobKind
from emr_indexer.projector import rows as row_builders
from emr_indexer.projector import store
from emr_indexer.projector.records import Record
from emr_indexer.refusals import Refusal
from emr_model.ledger import keys
from emr_model.ledger.events import PARTITIONS, partition_of
from emr_model.ledger.values import Event, Life
from emr_readmodel import care, hospital
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import Patient, seal, visit_note
from support.read_model import Hospital, give_key, lose_key, query, row, rows
from support.reference_replay import actual


@pytest.fixture
async def hospital_a(database: AsyncEngine, wrapping: WrappingKey) -> Hospital:
    await store.prepare(database)
    return Hospital(database, wrapping)


async def _parked_at_note_2(hospital_a: Hospital) -> tuple[Patient, bytes]:
    """Two patients; one's key is lost after the first note, and more notes follow for both."""
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    other, other_creation = await hospital_a.admit()
    writer.cut(creation, other_creation, writer.add_note(patient, visit_note()))
    await hospital_a.project()
    wrapped = await lose_key(hospital_a, patient)
    for _ in range(3):
        writer.cut(writer.add_note(patient, visit_note()), writer.add_note(other, visit_note()))
    return patient, wrapped


async def _versions(hospital_a: Hospital, patient: Patient) -> list[int]:
    found = await rows(hospital_a.database, care.note)
    return [note["version"] for note in found if note["emr_id"] == patient.emr_id]


async def test_the_emr_waits_and_everyone_else_goes_on(hospital_a: Hospital) -> None:
    patient, _ = await _parked_at_note_2(hospital_a)
    assert len(await hospital_a.project()) == len(hospital_a.records())
    assert await _versions(hospital_a, patient) == [1]
    assert len(await rows(hospital_a.database, care.note)) == 4
    assert await query(hospital_a.database, "select distinct block from care.position") == [(3,)]
    parked = await row(hospital_a.database, care.parked)
    assert (parked["subject"], parked["event_id"], parked["code"]) == (
        patient.emr_id,
        "care/1/0/1",
        Refusal.CONTENT_UNREADABLE,
    )
    waiting = await rows(hospital_a.database, care.parked_event)
    assert [each["event_id"] for each in waiting] == [
        "care/1/0/1",
        "care/2/0/0",
        "care/2/0/1",
        "care/3/0/0",
        "care/3/0/1",
    ]
    letter = await row(hospital_a.database, care.dead_letter)
    assert (letter["event_id"], letter["stops_partition"], letter["resolved_at"]) == ("care/1/0/1", False, None)


async def test_what_waits_is_applied_in_order_once_it_can_be(hospital_a: Hospital) -> None:
    patient, wrapped = await _parked_at_note_2(hospital_a)
    await hospital_a.project()
    await give_key(hospital_a, patient, wrapped)
    replayed = await hospital_a.projector.replay(patient.emr_id)
    assert (replayed.events, replayed.parked) == (5, False)
    assert await rows(hospital_a.database, care.parked) == await rows(hospital_a.database, care.parked_event) == []
    assert (await row(hospital_a.database, care.dead_letter))["resolved_at"] is not None
    assert await actual(hospital_a.database) == await hospital_a.reference()
    assert (await hospital_a.projector.replay(patient.emr_id)).events == 0


async def test_a_replay_that_changes_nothing_keeps_everything_waiting(hospital_a: Hospital) -> None:
    patient, _ = await _parked_at_note_2(hospital_a)
    await hospital_a.project()
    before = await rows(hospital_a.database, care.parked_event)
    replayed = await hospital_a.projector.replay(patient.emr_id)
    assert (replayed.events, replayed.parked) == (0, True)
    assert await rows(hospital_a.database, care.parked_event) == before
    assert (await row(hospital_a.database, care.dead_letter))["resolved_at"] is None


async def test_a_replay_stops_at_the_next_event_that_cannot_be_projected(
    hospital_a: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, wrapped = await _parked_at_note_2(hospital_a)
    await hospital_a.project()
    await give_key(hospital_a, patient, wrapped)
    real = row_builders.note

    def fails(event: Any, *rest: Any) -> Any:
        made = real(event, *rest)
        return {**made, "author": None} if event.id == "care/3/0/1" else made  # Postgres refuses it

    monkeypatch.setattr(row_builders, "note", fails)
    replayed = await hospital_a.projector.replay(patient.emr_id)
    assert (replayed.events, replayed.parked) == (4, True)
    assert await _versions(hospital_a, patient) == [1, 2, 3]
    parked = await row(hospital_a.database, care.parked)
    assert (parked["event_id"], parked["code"]) == ("care/3/0/1", Refusal.PROJECTION_FAILED)
    monkeypatch.undo()
    assert not (await hospital_a.projector.replay(patient.emr_id)).parked
    assert await actual(hospital_a.database) == await hospital_a.reference()


async def test_a_projector_that_starts_tries_what_is_parked(hospital_a: Hospital) -> None:
    patient, wrapped = await _parked_at_note_2(hospital_a)
    await hospital_a.project()
    await give_key(hospital_a, patient, wrapped)
    await hospital_a.new_projector().replay_all()
    assert await actual(hospital_a.database) == await hospital_a.reference()


@pytest.mark.parametrize("seed", range(3))
async def test_any_delivery_while_parked_gives_the_same_rows_after_a_replay(hospital_a: Hospital, seed: int) -> None:
    patient, wrapped = await _parked_at_note_2(hospital_a)
    chance, records = random.Random(seed), hospital_a.records()
    for _ in range(6):
        start = chance.randrange(len(records))
        known = await rows(hospital_a.database, care.position)
        block = min(each["block"] for each in known)
        await hospital_a.projector.project(records if block < 3 else records[start:])
        if chance.random() < 0.5:
            await hospital_a.projector.replay(patient.emr_id)
    await give_key(hospital_a, patient, wrapped)
    await hospital_a.projector.replay(patient.emr_id)
    assert await actual(hospital_a.database) == await hospital_a.reference()


async def test_an_answer_knows_which_parked_emrs_it_may_be_about(hospital_a: Hospital) -> None:
    patient, _ = await _parked_at_note_2(hospital_a)
    never_created = "f" * 32
    hospital_a.writer.cut(hospital_a.writer.transaction([(keys.emr(never_created), b'{"owner":"HospitalA"}')]))
    hospital_a.writer.cut(hospital_a.writer.transaction([(keys.organization("HospitalA"), b"{}")]))
    await hospital_a.project()
    assert len(await rows(hospital_a.database, care.parked)) == 3
    async with hospital_a.database.connect() as connection:
        own = await parked_among(connection, has_owner("HospitalA"), [patient.emr_id])
        others = await parked_among(connection, has_other_owner("HospitalA"))
        none = await parked_among(connection, care.parked.c.subject == "0" * 32)
    assert own.emr_ids == tuple(sorted([patient.emr_id, never_created]))
    assert own.count == 2
    assert own.shown == {patient.emr_id}
    assert (others.count, others.emr_ids) == (1, (never_created,))
    assert not none.count


async def test_an_erasure_takes_the_content_of_a_parked_emr_at_once(hospital_a: Hospital) -> None:
    patient, _ = await _parked_at_note_2(hospital_a)
    hospital_a.writer.cut(hospital_a.writer.set_life(patient, Life.ERASED, Event.EMR_ERASED))
    await hospital_a.project()
    (note,) = [each for each in await rows(hospital_a.database, care.note) if each["emr_id"] == patient.emr_id]
    assert note["content"] is None
    async with hospital_a.database.begin() as connection:
        await connection.execute(sa.delete(hospital.emr_key).where(hospital.emr_key.c.emr_id == patient.emr_id))
    assert not (await hospital_a.projector.replay(patient.emr_id)).parked
    assert await actual(hospital_a.database) == await hospital_a.reference()


async def test_bytes_under_another_commitment_park_the_emr(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    note = writer.add_note(patient, visit_note())
    sealed, _ = seal(patient.key, patient.owner, patient.emr_id, "note", 1, visit_note(marker="other"))
    (hidden,) = note.private_writes
    writer.cut(creation, note)
    records = [_with_sealed(each, hidden.value or b"", sealed) for each in hospital_a.records()]
    await hospital_a.projector.project(records)
    assert (await row(hospital_a.database, care.parked))["code"] == Refusal.CONTENT_UNREADABLE
    assert await rows(hospital_a.database, care.note) == []


def _with_sealed(record: Record, old: bytes, new: bytes) -> Record:
    return replace(record, value=record.value.replace(base64.b64encode(old), base64.b64encode(new)))


async def test_a_value_that_the_contract_does_not_write_parks_the_emr(hospital_a: Hospital) -> None:
    hospital_a.writer.cut(hospital_a.writer.transaction([(keys.emr("f" * 32), b'{"owner":"HospitalA"}')]))
    await hospital_a.project()
    assert (await row(hospital_a.database, care.parked))["code"] == Refusal.VALUE_MALFORMED


async def test_a_fact_about_an_emr_that_was_never_created_parks_the_emr(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    note = hospital_a.writer.add_note(patient, visit_note())
    hospital_a.writer.cut(replace(note, writes=note.writes[1:]))
    await hospital_a.project()
    assert creation not in hospital_a.writer.blocks[0].transactions
    assert (await row(hospital_a.database, care.parked))["code"] == Refusal.EMR_UNKNOWN


async def test_a_mistake_of_the_projectors_own_parks_only_the_emr_that_it_is_about(
    hospital_a: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = hospital_a.writer
    patients = []
    for _ in range(2 * PARTITIONS):
        patient, creation = await hospital_a.admit()
        writer.cut(creation)
        patients.append(patient)
    unlucky = patients[5].emr_id
    real = row_builders.emr

    def fails(event: Any, fact: Any, known: Any) -> dict[str, Any]:
        made = real(event, fact, known)
        return {**made, "patient_id": None} if made["emr_id"] == unlucky else made  # Postgres refuses it

    monkeypatch.setattr(row_builders, "emr", fails)
    assert len(await hospital_a.project()) == len(hospital_a.records())
    assert (await row(hospital_a.database, care.parked))["subject"] == unlucky
    present = {emr["emr_id"] for emr in await rows(hospital_a.database, care.emr)}
    assert present == {each.emr_id for each in patients} - {unlucky}
    monkeypatch.undo()
    await hospital_a.new_projector().replay_all()
    assert await actual(hospital_a.database) == await hospital_a.reference()


async def test_content_that_comes_late_fills_its_row(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    note = writer.add_note(patient, visit_note())
    block = writer.cut(creation, note, writer.add_note(patient, visit_note()))
    without = replace(block, transactions=tuple(replace(each, private_writes=()) for each in block.transactions))
    writer.blocks[0] = without
    await hospital_a.project()
    assert [each["content"] for each in await rows(hospital_a.database, care.note)] == [None, None]
    assert (await row(hospital_a.database, care.emr))["demographics"] is None
    writer.blocks[0] = block
    await hospital_a.project()
    assert await actual(hospital_a.database) == await hospital_a.reference()
    assert len(await query(hospital_a.database, "select * from analytics.visit")) == 2


async def test_content_that_comes_late_after_an_erasure_stays_away(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    block = writer.cut(creation, writer.add_note(patient, visit_note()))
    writer.blocks[0] = replace(
        block, transactions=tuple(replace(each, private_writes=()) for each in block.transactions)
    )
    writer.cut(writer.set_life(patient, Life.ERASED, Event.EMR_ERASED))
    await hospital_a.project()
    writer.blocks[0] = block
    await hospital_a.project()
    assert (await row(hospital_a.database, care.note))["content"] is None
    assert (await row(hospital_a.database, care.emr))["demographics"] is None


async def test_content_with_another_hash_that_comes_late_is_refused(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    block = writer.cut(creation, writer.add_note(patient, visit_note()))
    (hidden,) = block.transactions[1].private_writes
    writer.blocks[0] = replace(
        block, transactions=tuple(replace(each, private_writes=()) for each in block.transactions)
    )
    await hospital_a.project()
    writer.blocks[0] = block
    other, _ = seal(patient.key, patient.owner, patient.emr_id, "note", 1, visit_note(marker="other"))
    await hospital_a.projector.project(
        [_with_sealed(each, hidden.value or b"", other) for each in hospital_a.records()]
    )
    assert (await row(hospital_a.database, care.note))["content"] is None
    assert (await row(hospital_a.database, care.dead_letter))["code"] == Refusal.CONTENT_UNREADABLE
    assert await rows(hospital_a.database, care.parked) == []


def _job(event_id: str) -> Job:
    return Job("j", JobKind.REPLAY, {"eventId": event_id}, "running", None, None, None, None, None, None)  # type: ignore[arg-type]


async def _told(_: Any) -> None: ...


async def test_a_replay_is_asked_for_by_any_event_that_waits(hospital_a: Hospital) -> None:
    patient, wrapped = await _parked_at_note_2(hospital_a)
    await hospital_a.project()
    await give_key(hospital_a, patient, wrapped)
    replay = Replay(hospital_a.database, hospital_a.projector)
    assert await replay.do(_job("care/1/0/1"), _told) == {"events": 5, "parked": False}
    with pytest.raises(JobFailed, match="NOTHING_WAITS"):
        await replay.do(_job("care/1/0/1"), _told)


async def test_a_replay_lets_a_stopped_partition_go_on(hospital_a: Hospital) -> None:
    await hospital_a.projector.project([Record(2, 9, b"no message")])
    replay = Replay(hospital_a.database, hospital_a.projector)
    assert (await replay.do(_job("kafka/2/9"), _told))["partition"] == 2
    assert await store.stopped_partitions(hospital_a.database) == frozenset()


async def test_another_number_of_partitions_begins_anew_and_changes_nothing(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation)
    for _ in range(3):
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
    await hospital_a.project()
    for partitions in (2, 9):
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
        await store.prepare(hospital_a.database, partitions)
        assert await query(hospital_a.database, "select distinct block from care.position") == [(-1,)]
        other = Hospital(hospital_a.database, hospital_a.wrapping, partitions=partitions)
        other.writer = hospital_a.writer
        await other.project()
        assert await actual(hospital_a.database) == await hospital_a.reference()
        assert partition_of(patient.emr_id, partitions) < partitions


async def test_no_refusal_carries_content(hospital_a: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    await _parked_at_note_2(hospital_a)
    await hospital_a.project()
    printed = capsys.readouterr()
    letters = await rows(hospital_a.database, care.dead_letter)
    waiting = await rows(hospital_a.database, care.parked_event)
    for said in (printed.out, printed.err, str(letters), str(waiting)):
        assert "Hypertension" not in said
        assert "Lovelace" not in said
