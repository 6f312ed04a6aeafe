"""However Kafka delivers what it has, the rows are the same."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_indexer.projector import contents, store
from emr_indexer.projector.records import Record
from emr_model.ledger.events import PARTITIONS
from emr_model.ledger.values import Event, Life
from emr_readmodel import care, engine
from emr_readmodel.hospital import emr_key
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import LedgerWriter, Patient, visit_note
from support.postgres import PostgresServer, empty_database
from support.read_model import Hospital, records, rows
from support.reference_replay import actual


async def write_a_story(hospital: Hospital) -> None:
    """Every kind of fact, about EMRs in several partitions."""
    writer = hospital.writer
    writer.cut(writer.register("HospitalA"), writer.register("HospitalB"))
    patients = []
    for _ in range(6):
        patient, creation = await hospital.admit()
        writer.cut(creation)
        patients.append(patient)
    for step, patient in enumerate(patients * 3):
        writer.cut(writer.add_note(patient, visit_note(f"202{step % 5}-03-04T10:00:00Z"), is_visit=step % 2 == 0))
    _share(writer, patients[0])
    _share(writer, patients[1])
    writer.cut(writer.end(patients[1], "HospitalB", 1), writer.end(patients[1], "HospitalB", 0))
    writer.cut(
        writer.set_life(patients[2], Life.ERASED, Event.EMR_ERASED),
        writer.set_life(patients[2], Life.ACTIVE, Event.ERASURE_CANCELLED),
    )


def _share(writer: LedgerWriter, patient: Patient) -> None:
    access, request = writer.request(patient, "HospitalB")
    access, approvals = writer.approve(patient, "HospitalB", access, 2)
    access, sharing = writer.share(patient, "HospitalB", access, 2, b"snapshot")
    writer.cut(request, *approvals, sharing)
    writer.cut(writer.disclose(patient, "HospitalB", 1, 2))


def _deliveries(records: list[Record], chance: random.Random) -> Iterator[list[Record]]:
    """Batches of any size from any partition, each in its order; now and then one goes back, as after a crash."""
    by_partition: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_partition[record.partition].append(record)
    reached = dict.fromkeys(by_partition, 0)
    going_back = min(0.15, 0.9 / len(reached) ** 1.5)  # of many partitions all must be at their ends some time
    while any(reached[each] < len(by_partition[each]) for each in reached):
        batch: list[Record] = []
        for partition in chance.sample(sorted(reached), chance.randint(1, len(reached))):
            if chance.random() < going_back:
                reached[partition] = chance.randint(0, reached[partition])
            end = reached[partition] + chance.randint(0, 9)
            batch += by_partition[partition][reached[partition] : end]
            reached[partition] = min(end, len(by_partition[partition]))
        yield batch


async def _tables(database: AsyncEngine) -> dict[str, Any]:
    """All that derives from the ledger, without the times at which it was written here."""
    found = {
        table.name: await rows(database, table) for table in care.emr.metadata.sorted_tables if table.schema == "care"
    }
    del found["generation"]
    for row in [*found["position"], *found["dead_letter"]]:
        row.pop("projected_at", None)
        row.pop("first_at", None)
    return found


@pytest.mark.parametrize(
    ("seed", "partitions", "ahead"), [(0, 6, 10**6), (1, 6, 3000), (2, 6, 1), (3, 1, 10**6), (4, 13, 10**6)]
)
async def test_any_delivery_gives_the_same_rows(
    server: PostgresServer,
    template: str,
    wrapping: WrappingKey,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    partitions: int,
    ahead: int,
) -> None:
    """``ahead``: characters of notes that are kept open before their turn."""
    monkeypatch.setattr(contents, "MOST_CHARACTERS_AHEAD", ahead)
    copy = partial(empty_database, server, template=template)
    async with copy() as straight_url, copy() as shuffled_url:
        straight, shuffled = engine.create(straight_url, 2), engine.create(shuffled_url, 2)
        try:
            await store.prepare(straight)
            await store.prepare(shuffled, partitions)
            hospital = Hospital(straight, wrapping)
            await write_a_story(hospital)
            await hospital.project()
            assert await actual(straight) == await hospital.reference()
            await _copy_keys(straight, shuffled)
            chance = random.Random(seed)
            other = Hospital(shuffled, wrapping, partitions=partitions)
            records_of_other = records(hospital.writer.blocks, partitions=partitions)
            for batch in _deliveries(records_of_other, chance):
                if chance.random() < 0.2:
                    other.projector = other.new_projector()
                for record in chance.sample(batch, chance.randint(0, len(batch))):
                    other.projector.look_ahead(record)
                await other.projector.project(batch)
            assert await actual(shuffled) == await hospital.reference()
            tables = await _tables(shuffled)
            if partitions == PARTITIONS:
                assert tables == await _tables(straight)
            assert len(tables["dead_letter"]) == 2
            assert tables["parked"] == tables["parked_event"] == []
        finally:
            await straight.dispose()
            await shuffled.dispose()


async def _copy_keys(source: AsyncEngine, target: AsyncEngine) -> None:
    async with target.begin() as connection:
        await connection.execute(sa.insert(emr_key), await rows(source, emr_key))
