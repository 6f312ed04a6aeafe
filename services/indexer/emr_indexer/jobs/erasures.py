"""What erasures have left: proof that nobody, this hospital included, can read an erased EMR any more.

Four places are looked at: the key table, rows, the peer's private data, and what topics still keep of sealed bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from emr_common.sealing import ContentKey, SealingFailed, WrappingKey, associated_data
from emr_model.ledger import keys
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import LedgerEvent, Topics, decode
from emr_model.ledger.keys import ObjectType
from emr_model.ledger.values import Emr, Life, LifeState, Note
from emr_readmodel import care, hospital
from emr_readmodel.shadows import WALK
from hlf.blocks import Block, split_composite_key
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_indexer.jobs.runner import JobFailed, Tell
from emr_indexer.jobs.shadow import Blocks
from emr_indexer.jobs.store import Job
from emr_indexer.kafka import reader
from emr_indexer.projector.store import has_shadow

KEYS_TRIED = 100
"""Of the keys that the hospital still has, how many are tried on each sealed record of an erased EMR."""

RECORD_SECONDS = 10.0

log = structlog.get_logger(__name__)


@dataclass
class Looked:
    """``differences`` name the EMR, where something was found, and what."""

    emr_ids: frozenset[str]
    erased_on_ledger: set[str] = field(default_factory=set)
    sealed_records: int = 0
    differences: list[dict[str, str]] = field(default_factory=list)

    def found(self, emr_id: str, where: str, what: str) -> None:
        self.differences.append({"emrId": emr_id, "where": where, "what": what})


@dataclass(frozen=True)
class Erasures:
    engine: AsyncEngine
    blocks: Blocks
    wrapping: WrappingKey
    msp_id: str
    namespace: str
    bootstrap_servers: tuple[str, ...]
    topics: Topics

    async def do(self, job: Job, tell: Tell) -> Mapping[str, Any]:
        """``emrs`` looked at, ``sealedRecords`` of theirs in topics, ``differences``: what should not be there.

        Raises JobFailed NOT_ERASED for an EMR that is none of the hospital's erased ones.
        """
        looked = Looked(await self._erased(job.argument.get("emrId")))
        last = await self.blocks.last()
        async with self.engine.connect() as connection:
            for table, what in _TRACES:
                await _look_in(connection, table, what, looked)
            if await has_shadow(connection, WALK):
                for table, what in _TRACES:
                    if table.schema == care.SCHEMA:
                        await _look_in(connection, table, what, looked, WALK)
            held = await self._keys(connection)
        await self._look_at_peer(last, looked, tell)
        await self._look_in_topics(held, looked)
        if looked.differences:
            log.critical("erasure_incomplete", found=len(looked.differences))
        result = {"emrs": len(looked.emr_ids), "sealedRecords": looked.sealed_records, "block": last}
        return {**result, "found": len(looked.differences), "differences": looked.differences}

    async def _erased(self, emr_id: str | None) -> frozenset[str]:
        is_erased = sa.and_(care.emr.c.owner_msp == self.msp_id, care.emr.c.life == Life.ERASED.value)
        async with self.engine.connect() as connection:
            found = frozenset(await connection.scalars(sa.select(care.emr.c.emr_id).where(is_erased)))
        if emr_id is None:
            return found
        if emr_id not in found:
            raise JobFailed("NOT_ERASED")
        return frozenset({emr_id})

    async def _keys(self, connection: AsyncConnection) -> list[ContentKey]:
        table = hospital.emr_key.c
        query = sa.select(table.emr_id, table.wrapped_keyset).order_by(table.created_at.desc()).limit(KEYS_TRIED)
        return [self.wrapping.unwrap(row.wrapped_keyset, row.emr_id) for row in await connection.execute(query)]

    async def _look_at_peer(self, last: int, looked: Looked, tell: Tell) -> None:
        async with aclosing(self.blocks.up_to(last)) as blocks:  # type: ignore[type-var]
            async for block in blocks:
                self._look_at_block(block, looked)
                if block.number % 1000 == 0:
                    await tell({"block": block.number, "lastBlock": last})
        for emr_id in sorted(looked.emr_ids - looked.erased_on_ledger):
            looked.found(emr_id, "ledger", "no erasure stands on it")

    def _look_at_block(self, block: Block, looked: Looked) -> None:
        own = keys.implicit_collection(self.msp_id)
        for transaction in block.transactions:
            if not transaction.is_valid:
                continue
            for write in transaction.writes:
                kind, emr_id = _kind_and_emr(write.key)
                is_life = write.namespace == self.namespace and kind == ObjectType.LIFE
                if is_life and emr_id in looked.emr_ids and _is_erasure(write.value):
                    looked.erased_on_ledger.add(emr_id)
            for private in transaction.private_writes:
                emr_id = _kind_and_emr(private.key)[1]
                if private.collection == own and not private.is_delete and emr_id in looked.emr_ids:
                    looked.found(emr_id, "peer", f"private data of block {block.number}")

    async def _look_in_topics(self, held: list[ContentKey], looked: Looked) -> None:
        async with aclosing(_records(self.bootstrap_servers, self.topics)) as records:
            async for value in records:
                event = _event(value)
                if event is not None and event.emr_id in looked.emr_ids and event.sealed_bytes is not None:
                    looked.sealed_records += 1
                    if self._opens(event, held):
                        looked.found(event.emr_id or "", "topic", f"event {event.id} opens")

    def _opens(self, event: LedgerEvent, held: list[ContentKey]) -> bool:
        sealed, place = event.sealed_bytes, _place(event)
        if sealed is None or place is None:
            return False
        kind, version = place
        bound_to = associated_data(
            channel=event.channel,
            owner=self.msp_id,
            recipient=self.msp_id,
            kind=kind,  # type: ignore[arg-type]
            emr_id=event.attributes[0],
            version=version,
        )
        return any(_succeeds(lambda key=key: key.open(sealed, bound_to)) for key in held)  # type: ignore[misc]


_TRACES = (
    (hospital.emr_key, sa.true()),
    (hospital.patient_identifier, sa.true()),
    (hospital.wallet, sa.true()),
    (hospital.import_job, hospital.import_job.c.sealed_bundle.is_not(None)),
    (care.emr, sa.or_(care.emr.c.demographics.is_not(None), care.emr.c.family_name.is_not(None))),
    (care.note, sa.or_(care.note.c.content.is_not(None), care.note.c.kind.is_not(None))),
    (care.condition, sa.true()),
    (care.medication, sa.true()),
    (care.pseudonym, sa.true()),
)
"""Where rows of an erased EMR would still say something, and which of them."""


async def _look_in(
    connection: AsyncConnection,
    table: sa.Table,
    says: sa.ColumnElement[bool],
    looked: Looked,
    shadow: str | None = None,
) -> None:
    """In the table, or in that of the shadow."""
    schema = shadow or table.schema
    query = sa.select(table.c.emr_id).where(table.c.emr_id.in_(looked.emr_ids), says).distinct()
    for emr_id in await connection.scalars(query, execution_options={"schema_translate_map": {table.schema: schema}}):
        looked.found(emr_id, "rows", f"{schema}.{table.name}")


def _kind_and_emr(written: str) -> tuple[str, str]:
    try:
        kind, attributes = split_composite_key(written)
    except ValueError:
        return "", ""
    return kind, attributes[0] if attributes else ""


def _is_erasure(value: bytes) -> bool:
    try:
        return LifeState.from_json(value).state is Life.ERASED
    except ValueMalformed:
        return False


def _place(event: LedgerEvent) -> tuple[str, int] | None:
    """Kind and version that the event's content is bound to."""
    match event.fact:
        case Note():
            return "note", keys.number(event.attributes[1])
        case Emr() as emr:
            return "demographics", emr.demographics_revision
    return None


def _succeeds(opening: Callable[[], bytes]) -> bool:
    try:
        opening()
    except SealingFailed:
        return False
    return True


def _event(value: bytes) -> LedgerEvent | None:
    try:
        message = decode(value)
    except ValueMalformed:
        return None
    return message if isinstance(message, LedgerEvent) else None


async def _records(bootstrap_servers: tuple[str, ...], topics: Topics) -> AsyncGenerator[bytes, None]:
    """Every record that the topic of events holds now."""
    async with reader(bootstrap_servers) as consumer:
        for number in range(topics.partitions):
            partition = TopicPartition(topics.events, number)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            await consumer.seek_to_beginning(partition)
            async for value in _until(consumer, partition, end):
                yield value


async def _until(consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> AsyncIterator[bytes]:
    while await consumer.position(partition) < end:
        found = await consumer.getmany(partition, timeout_ms=int(RECORD_SECONDS * 1000))
        for record in found.get(partition, []):
            yield record.value
