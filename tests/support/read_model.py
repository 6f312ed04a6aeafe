"""A hospital's read model in a test: records as Kafka would give them, and rows as they stand afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from emr_common.sealing import ContentKey, WrappingKey
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.records import Record
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.events import PARTITIONS, LedgerEvent, encode, partition_of
from emr_readmodel import hospital
from hlf.blocks import Block, BlockTransaction
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import CHANNEL, NAMESPACE, LedgerWriter, Patient
from support.reference_replay import Reference, content_keys, expected

PSEUDONYM_KEY = b"k" * 32


class Hospital:
    """A hospital's read model being filled from a ledger that the test writes."""

    def __init__(
        self, database: AsyncEngine, wrapping: WrappingKey, msp_id: str = "HospitalA", partitions: int = PARTITIONS
    ) -> None:
        self.database = database
        self.wrapping = wrapping
        self.msp_id = msp_id
        self.partitions = partitions
        self.writer = LedgerWriter(reader=msp_id)
        self.projector = self.new_projector()

    def new_projector(self) -> Projector:
        return Projector(self.database, self.msp_id, self.wrapping, Pseudonyms(PSEUDONYM_KEY), self.partitions)

    async def admit(self, **options: bytes) -> tuple[Patient, BlockTransaction]:
        patient, creation = self.writer.create_emr(**options)  # type: ignore[arg-type]
        await keep_key(self.database, self.wrapping, patient)
        return patient, creation

    async def project(self) -> list[Record]:
        """Everything from block 0 on, as after a crash: what is in already must change nothing."""
        return await self.projector.project(self.records())

    def records(self) -> list[Record]:
        return records(self.writer.blocks, self.msp_id, self.partitions)

    async def reference(self) -> dict[str, str]:
        """The digests of the tables as they must be, from everything that is in blocks."""
        keys = await content_keys(self.database, self.wrapping)
        return expected(Reference(self.msp_id, keys, PSEUDONYM_KEY, NAMESPACE).read(self.writer.blocks))


def records(blocks: Iterable[Block], msp_id: str = "HospitalA", partitions: int = PARTITIONS) -> list[Record]:
    """What the relay makes of blocks, partition by partition within each block."""
    reader = BlockReader(CHANNEL, NAMESPACE, msp_id)
    offsets = [0] * partitions
    found: list[Record] = []

    def add(partition: int, value: bytes) -> None:
        found.append(Record(partition, offsets[partition], value))
        offsets[partition] += 1

    for block in blocks:
        for message in reader.read(block).messages:
            if isinstance(message, LedgerEvent):
                add(partition_of(message.subject, partitions), encode(message))
            else:
                for partition in range(partitions):
                    add(partition, encode(message))
    return found


async def keep_key(database: AsyncEngine, wrapping: WrappingKey, patient: Patient) -> None:
    """As registration does before the EMR's creation."""
    async with database.begin() as connection:
        wrapped = wrapping.wrap(patient.key, patient.emr_id)
        await connection.execute(sa.insert(hospital.emr_key).values(emr_id=patient.emr_id, wrapped_keyset=wrapped))


async def lose_key(hospital_a: Hospital, patient: Patient) -> bytes:
    """Another key stands in the table, as after a wrong restore: notes that come now park the EMR. Returns the right
    one, wrapped.
    """
    table = hospital.emr_key
    async with hospital_a.database.begin() as connection:
        of_patient = table.c.emr_id == patient.emr_id
        right: bytes = (await connection.scalars(sa.select(table.c.wrapped_keyset).where(of_patient))).one()
    await give_key(hospital_a, patient, hospital_a.wrapping.wrap(ContentKey.generate(), patient.emr_id))
    return right


async def give_key(hospital_a: Hospital, patient: Patient, wrapped: bytes) -> None:
    async with hospital_a.database.begin() as connection:
        update = sa.update(hospital.emr_key).where(hospital.emr_key.c.emr_id == patient.emr_id)
        await connection.execute(update.values(wrapped_keyset=wrapped))


async def rows(database: AsyncEngine, table: sa.Table) -> list[dict[str, Any]]:
    async with database.connect() as connection:
        found = await connection.execute(sa.select(table).order_by(*table.primary_key))
        return [dict(row) for row in found.mappings()]


async def row(database: AsyncEngine, table: sa.Table) -> dict[str, Any]:
    (only,) = await rows(database, table)
    return only


async def query(database: AsyncEngine, text: str) -> list[tuple[Any, ...]]:
    async with database.connect() as connection:
        return [tuple(each) for each in await connection.execute(sa.text(text))]
