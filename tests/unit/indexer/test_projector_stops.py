from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.sealing import ContentKey, WrappingKey
from emr_indexer.projector import rows as row_builders
from emr_indexer.projector import store
from emr_indexer.projector.projector import Record
from emr_indexer.refusals import Refusal
from emr_model.ledger import keys
from emr_model.ledger.events import PARTITIONS, partition_of
from emr_readmodel import care
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import LedgerWriter, seal, visit_note
from support.postgres import PostgresServer
from support.read_model import Hospital, query, row, rows


@pytest.fixture
async def hospital_a(database: AsyncEngine, wrapping: WrappingKey) -> Hospital:
    await store.prepare(database)
    return Hospital(database, wrapping)


async def _with_a_note_that_does_not_open(hospital_a: Hospital) -> str:
    """Note 2 of an EMR is sealed with another key; note 3 is fine. Returns the EMR."""
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    writer.cut(creation, writer.add_note(patient, visit_note()))
    right_key, patient.key = patient.key, ContentKey.generate()
    writer.cut(writer.add_note(patient, visit_note()))
    patient.key = right_key
    writer.cut(writer.add_note(patient, visit_note()))
    return patient.emr_id


async def test_an_event_that_cannot_be_projected_stops_its_partition_and_no_other(hospital_a: Hospital) -> None:
    emr_id = await _with_a_note_that_does_not_open(hospital_a)
    partition = partition_of(emr_id)
    acknowledged = await hospital_a.project()

    assert [note["version"] for note in await rows(hospital_a.database, care.note)] == [1]
    blocks = {each["partition"]: each["block"] for each in await rows(hospital_a.database, care.position)}
    assert blocks == {number: 0 if number == partition else 2 for number in range(PARTITIONS)}
    assert {record.partition for record in acknowledged} == set(range(PARTITIONS))
    lost = [each for each in hospital_a.records() if each not in acknowledged]
    assert {record.partition for record in lost} == {partition}
    letter = await row(hospital_a.database, care.dead_letter)
    assert (letter["code"], letter["stops_partition"], letter["partition"], letter["resolved_at"]) == (
        Refusal.CONTENT_UNREADABLE,
        True,
        partition,
        None,
    )
    assert letter["emr_id"] == emr_id


async def test_a_stopped_partition_is_said_in_metrics_and_takes_nothing_more(hospital_a: Hospital) -> None:
    partition = partition_of(await _with_a_note_that_does_not_open(hospital_a))
    await hospital_a.project()
    assert REGISTRY.get_sample_value("emr_projector_partition_stopped", {"partition": str(partition)}) == 1
    assert all(record.partition != partition for record in await hospital_a.project())
    assert await store.stopped_partitions(hospital_a.database) == {partition}


async def test_a_stopped_partition_goes_on_at_the_event_once_it_can_be_projected(
    hospital_a: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr_id = await _with_a_note_that_does_not_open(hospital_a)
    await hospital_a.project()
    monkeypatch.setattr("emr_indexer.projector.contents.Contents.note", lambda *_: None)
    hospital_a.projector.resume(partition_of(emr_id))
    assert len(await hospital_a.project()) == len(hospital_a.records())
    assert [note["version"] for note in await rows(hospital_a.database, care.note)] == [1, 2, 3]
    assert (await row(hospital_a.database, care.dead_letter))["resolved_at"] is not None
    assert await store.stopped_partitions(hospital_a.database) == frozenset()


async def test_bytes_under_another_commitment_stop_the_partition(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    note = writer.add_note(patient, visit_note())
    sealed, _ = seal(patient.key, patient.owner, patient.emr_id, "note", 1, visit_note(marker="other"))
    (hidden,) = note.private_writes
    writer.cut(creation, note)
    records = [_with_sealed(each, hidden.value or b"", sealed) for each in hospital_a.records()]
    await hospital_a.projector.project(records)
    assert (await row(hospital_a.database, care.dead_letter))["code"] == Refusal.CONTENT_UNREADABLE
    assert await rows(hospital_a.database, care.note) == []


def _with_sealed(record: Record, old: bytes, new: bytes) -> Record:
    return replace(record, value=record.value.replace(base64.b64encode(old), base64.b64encode(new)))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"no message", Refusal.MESSAGE_MALFORMED),
        (b'{"deadLetter":{}}', Refusal.MESSAGE_MALFORMED),
    ],
)
async def test_a_record_that_is_no_message_stops_its_partition(
    hospital_a: Hospital, value: bytes, code: Refusal
) -> None:
    assert await hospital_a.projector.project([Record(4, 17, value)]) == []
    letter = await row(hospital_a.database, care.dead_letter)
    assert (letter["event_id"], letter["code"], letter["partition"]) == ("kafka/4/17", code, 4)


async def test_a_value_that_the_contract_does_not_write_stops_the_partition(hospital_a: Hospital) -> None:
    hospital_a.writer.cut(hospital_a.writer.transaction([(keys.emr("f" * 32), b'{"owner":"HospitalA"}')]))
    await hospital_a.project()
    assert (await row(hospital_a.database, care.dead_letter))["code"] == Refusal.VALUE_MALFORMED


async def test_a_fact_about_an_emr_that_was_never_created_stops_the_partition(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    note = hospital_a.writer.add_note(patient, visit_note())
    hospital_a.writer.cut(replace(note, writes=note.writes[1:]))
    await hospital_a.project()
    assert creation not in hospital_a.writer.blocks[0].transactions
    assert (await row(hospital_a.database, care.dead_letter))["code"] == Refusal.EMR_UNKNOWN


async def test_a_block_that_was_left_out_stops_every_partition(hospital_a: Hospital) -> None:
    for _ in range(3):
        hospital_a.writer.genesis()
    per_block = len(hospital_a.records()) // 3
    await hospital_a.projector.project(hospital_a.records()[:per_block])
    acknowledged = await hospital_a.projector.project(hospital_a.records()[2 * per_block :])
    assert acknowledged == []
    assert await query(hospital_a.database, "select distinct block from care.position") == [(0,)]
    letters = await rows(hospital_a.database, care.dead_letter)
    assert [letter["code"] for letter in letters] == [Refusal.EVENTS_MISSING] * PARTITIONS


async def test_a_mistake_of_the_projectors_own_stops_only_the_partition_of_the_event(
    hospital_a: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = hospital_a.writer
    patients = []
    for _ in range(12):
        patient, creation = await hospital_a.admit()
        writer.cut(creation)
        patients.append(patient)
    unlucky = patients[5].emr_id
    real = row_builders.emr

    def fails(event: Any, fact: Any, known: Any) -> dict[str, Any]:
        row = real(event, fact, known)
        return {**row, "patient_id": None} if row["emr_id"] == unlucky else row  # Postgres refuses it

    monkeypatch.setattr(row_builders, "emr", fails)
    await hospital_a.project()
    letter = await row(hospital_a.database, care.dead_letter)
    assert (letter["code"], letter["emr_id"]) == (Refusal.PROJECTION_FAILED, unlucky)
    present = {emr["emr_id"] for emr in await rows(hospital_a.database, care.emr)}
    others = {each.emr_id for each in patients if partition_of(each.emr_id) != partition_of(unlucky)}
    assert others <= present
    assert unlucky not in present


async def test_a_postgres_that_goes_away_is_waited_for(server: PostgresServer, hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note()))
    await asyncio.to_thread(server.kill)
    projecting = asyncio.create_task(hospital_a.project())
    await asyncio.sleep(0.5)
    assert _waits(hospital_a)
    await asyncio.to_thread(server.start)
    assert len(await projecting) == len(hospital_a.records())
    assert not _waits(hospital_a)
    assert len(await rows(hospital_a.database, care.note)) == 1


def _waits(hospital_a: Hospital) -> bool:
    return hospital_a.projector.is_waiting_for_database


async def test_two_projectors_at_once_make_the_same_rows_as_one(hospital_a: Hospital) -> None:
    writer: LedgerWriter = hospital_a.writer
    patient, creation = await hospital_a.admit()
    writer.cut(creation)
    for _ in range(10):
        writer.cut(writer.add_note(patient, visit_note()))
    first, second = hospital_a.new_projector(), hospital_a.new_projector()
    records = hospital_a.records()

    async def run(projector_number: int) -> None:
        projector = (first, second)[projector_number]
        for start in range(0, len(records), 9 + projector_number):
            await projector.project(records[start : start + 9 + projector_number])

    await asyncio.gather(run(0), run(1))
    assert [note["version"] for note in await rows(hospital_a.database, care.note)] == list(range(1, 11))
    async with hospital_a.database.connect() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(care.dead_letter)) == 0


async def test_no_refusal_carries_content(hospital_a: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    await _with_a_note_that_does_not_open(hospital_a)
    await hospital_a.project()
    printed = capsys.readouterr()
    for said in (printed.out, printed.err, str(await rows(hospital_a.database, care.dead_letter))):
        assert "Hypertension" not in said
        assert "Lovelace" not in said
