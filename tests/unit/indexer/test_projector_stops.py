from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_indexer.projector import store
from emr_indexer.projector.records import Record
from emr_indexer.refusals import Refusal
from emr_model.ledger.events import PARTITIONS
from emr_readmodel import care
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import LedgerWriter, visit_note
from support.postgres import PostgresServer
from support.read_model import Hospital, query, row, rows


@pytest.fixture
async def hospital_a(database: AsyncEngine, wrapping: WrappingKey) -> Hospital:
    await store.prepare(database)
    return Hospital(database, wrapping)


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


async def test_a_stopped_partition_is_said_in_metrics_and_takes_nothing_more(hospital_a: Hospital) -> None:
    await hospital_a.projector.project([Record(4, 17, b"no message")])
    assert REGISTRY.get_sample_value("emr_projector_partition_stopped", {"partition": "4"}) == 1
    hospital_a.writer.genesis()
    assert {record.partition for record in await hospital_a.project()} == set(range(PARTITIONS)) - {4}
    assert await store.stopped_partitions(hospital_a.database) == {4}


async def test_a_record_that_a_person_gave_up_is_passed_by(hospital_a: Hospital) -> None:
    await hospital_a.projector.project([Record(4, 0, b"no message")])
    async with hospital_a.database.begin() as connection:
        await connection.execute(sa.update(care.dead_letter).values(resolved_at=sa.func.now()))
    hospital_a.projector.resume(4)
    hospital_a.writer.genesis()
    after = [replace(record, offset=record.offset + 1) for record in hospital_a.records() if record.partition == 4]
    assert len(await hospital_a.projector.project([Record(4, 0, b"no message"), *after])) == 2
    assert await query(hospital_a.database, "select block from care.position where partition = 4") == [(0,)]


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
