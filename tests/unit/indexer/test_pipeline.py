"""Relay, Kafka, faust worker and Postgres together; only the peer is played by the test."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient
from emr_common.sealing import ContentKey, WrappingKey
from emr_common.settings import KafkaSettings
from emr_indexer.kafka import TopicsUnusable, admin, ensure_topics, producer, reader
from emr_indexer.projector.monitor import PartitionReleased
from emr_indexer.projector.service import ProjectorService
from emr_indexer.relay.facts import BlockReader
from emr_indexer.relay.relay import Kafka, Relay, RelayState
from emr_indexer.relay.resume import last_relayed
from emr_indexer.relay.stages import QUEUED_BLOCKS
from emr_model.ledger import keys
from emr_model.ledger.events import BlockMark, Topics, decode
from emr_readmodel import care
from hlf.blocks import Block, Checkpoint
from hlf.errors import DeliverError
from sqlalchemy.ext.asyncio import AsyncEngine
from support.kafka import KafkaServer
from support.ledger_writer import CHANNEL, NAMESPACE, visit_note
from support.read_model import Hospital, query, rows
from support.reference_replay import actual

AWAY_SECONDS = float(os.environ.get("KAFKA_AWAY_SECONDS", "2"))
HELD_BLOCKS = 3 * QUEUED_BLOCKS + 4
"""In the two queues between a relay's stages, in the batch that Kafka does not take, and in the stages' hands."""


class Ledger:
    """A hospital whose blocks are delivered as they are written."""

    def __init__(self, hospital: Hospital) -> None:
        self.hospital = hospital
        self.failure: DeliverError | None = None
        self.resumed_after: list[int] = []
        self.taken = 0

    async def after(self, checkpoint: Checkpoint | None) -> AsyncIterator[Block]:
        number = 0 if checkpoint is None else checkpoint.block_number + 1
        self.resumed_after.append(number - 1)
        while True:
            if self.failure:
                raise self.failure
            if number < len(self.hospital.writer.blocks):
                self.taken += 1
                yield self.hospital.writer.blocks[number]
                number += 1
            else:
                await asyncio.sleep(0.01)

    async def one(self, number: int) -> Block:
        return self.hospital.writer.blocks[number]


@pytest.fixture
def ledger(database: AsyncEngine, wrapping: WrappingKey) -> Ledger:
    return Ledger(Hospital(database, wrapping))


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def relay(ledger: Ledger, settings: KafkaSettings) -> Relay:
    return Relay(
        ledger.hospital.database,
        Kafka(settings.bootstrap_servers, Topics(settings.topic_prefix)),
        CHANNEL,
        ledger.after,
        BlockReader(CHANNEL, NAMESPACE, "HospitalA"),
        ledger.one,
    )


def projector(ledger: Ledger, settings: KafkaSettings) -> ProjectorService:
    return ProjectorService(ledger.hospital.database, settings, ledger.hospital.new_projector())


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def as_of(ledger: Ledger, block: int) -> None:
    async def reached() -> bool:
        return await query(ledger.hospital.database, "select block from analytics.as_of") == [(block,)]

    await eventually(reached)


async def admit_with_notes(ledger: Ledger, notes: int) -> None:
    patient, creation = await ledger.hospital.admit()
    ledger.hospital.writer.cut(creation)
    for _ in range(notes):
        ledger.hospital.writer.cut(ledger.hospital.writer.add_note(patient, visit_note()))


async def test_blocks_become_rows(ledger: Ledger, settings: KafkaSettings) -> None:
    await admit_with_notes(ledger, 5)
    async with running(relay(ledger, settings).run()), running(projector(ledger, settings).run()):
        await as_of(ledger, 5)
        assert len(await rows(ledger.hospital.database, care.note)) == 5
        started = time.monotonic()
        ledger.hospital.writer.genesis()
        await as_of(ledger, 6)
        assert time.monotonic() - started < 2


async def test_what_the_relay_does_not_believe_is_kept_for_people(ledger: Ledger, settings: KafkaSettings) -> None:
    writer = ledger.hospital.writer
    hidden = [("HospitalB", keys.note("f" * 32, 1), b"planted")]
    writer.cut(writer.transaction([], private=hidden, endorsers=("HospitalB",)))
    async with running(relay(ledger, settings).run()), running(projector(ledger, settings).run()):

        async def kept() -> bool:
            return bool(await rows(ledger.hospital.database, care.dead_letter))

        await eventually(kept)
    (letter,) = await rows(ledger.hospital.database, care.dead_letter)
    assert (letter["event_id"], letter["stage"], letter["code"]) == ("care/0/0/0", "relay", "PRIVATE_WRITE_UNPAIRED")


async def test_a_relay_resumes_after_the_last_block_that_kafka_acknowledged(
    ledger: Ledger, settings: KafkaSettings
) -> None:
    await admit_with_notes(ledger, 3)
    topics = Topics(settings.topic_prefix)

    async def relayed() -> bool:
        found = await last_relayed(settings.bootstrap_servers, topics, CHANNEL)
        return found == ledger.hospital.writer.blocks[-1].checkpoint

    async with running(relay(ledger, settings).run()):
        await eventually(relayed)
    await admit_with_notes(ledger, 3)
    async with running(relay(ledger, settings).run()):
        await eventually(relayed)
    assert ledger.resumed_after == [-1, 3]
    assert await _marks(settings) == [list(range(8))] * 6


async def _marks(settings: KafkaSettings) -> list[list[int]]:
    """Numbers of the marked blocks in each partition."""
    topic = Topics(settings.topic_prefix).events
    found: list[list[int]] = []
    async with reader(settings.bootstrap_servers) as consumer:
        for number in range(6):
            partition = TopicPartition(topic, number)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            messages = [decode((await consumer.getone(partition)).value) for _ in range(end)]
            found.append([each.block for each in messages if isinstance(each, BlockMark)])
    return found


async def test_one_relay_leads_and_another_takes_over(ledger: Ledger, settings: KafkaSettings) -> None:
    first, second = relay(ledger, settings), relay(ledger, settings)

    async def leads(each: Relay) -> bool:
        return each.state is RelayState.RELAYING

    async with running(second.run()) as standby:
        await eventually(lambda: leads(second))
        async with running(first.run()):
            await asyncio.sleep(1.5)
            assert first.state is RelayState.STANDING_BY
            standby.cancel()
            await asyncio.gather(standby, return_exceptions=True)
            started = time.monotonic()
            await eventually(lambda: leads(first))
            assert time.monotonic() - started < 5


async def test_a_broken_chain_halts_the_relay_for_good(ledger: Ledger, settings: KafkaSettings) -> None:
    ledger.failure = DeliverError("block 3 does not link to the block before it", is_chain_broken=True)
    halted = relay(ledger, settings)

    async def has_halted() -> bool:
        return halted.state is RelayState.HALTED

    async with running(halted.run()) as task:
        await eventually(has_halted)
        ledger.failure = None
        await asyncio.sleep(0.5)
        assert not task.done()
    assert ledger.resumed_after == [-1]


async def test_a_peer_that_goes_away_is_asked_again(ledger: Ledger, settings: KafkaSettings) -> None:
    ledger.failure = DeliverError("the stream of blocks ended early", retriable=True)
    await admit_with_notes(ledger, 1)
    relaying = relay(ledger, settings)
    async with running(relaying.run()), running(projector(ledger, settings).run()):

        async def interrupted() -> bool:
            return relaying.state is RelayState.INTERRUPTED

        await eventually(interrupted)
        ledger.failure = None
        await as_of(ledger, 1)


async def test_content_that_the_peer_has_later_fills_its_row(
    ledger: Ledger, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emr_indexer.relay.late.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("emr_indexer.relay.late.FIRST_WAIT_SECONDS", 0.1)
    writer, database = ledger.hospital.writer, ledger.hospital.database
    patient, creation = await ledger.hospital.admit()
    whole = writer.cut(creation, writer.add_note(patient, visit_note()))
    bare = tuple(replace(each, private_writes=()) for each in whole.transactions)
    writer.blocks[0] = replace(whole, transactions=bare)
    async with running(relay(ledger, settings).run()), running(projector(ledger, settings).run()):
        await as_of(ledger, 0)
        assert [note["content"] for note in await rows(database, care.note)] == [None]
        writer.blocks[0] = whole

        async def filled() -> bool:
            return await actual(database) == await ledger.hospital.reference()

        await eventually(filled)


async def test_a_projector_that_was_stopped_catches_up(
    ledger: Ledger, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the seat of the one before: Kafka need not find out first that nobody sits there any more."""
    monkeypatch.setattr("emr_indexer.projector.worker.SESSION_SECONDS", 85.0)
    async with running(relay(ledger, settings).run()):
        async with running(projector(ledger, settings).run()):
            await admit_with_notes(ledger, 2)
            await as_of(ledger, 2)
        await admit_with_notes(ledger, 2)
        await asyncio.sleep(0.5)
        assert len(await rows(ledger.hospital.database, care.note)) == 2
        async with running(projector(ledger, settings).run()):
            await as_of(ledger, 5)
    assert len(await rows(ledger.hospital.database, care.note)) == 4


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.3, 0.35, 0.5])
async def test_a_projector_that_is_stopped_while_it_starts_ends(
    ledger: Ledger, settings: KafkaSettings, seconds: float
) -> None:
    projecting = asyncio.create_task(projector(ledger, settings).run())
    await asyncio.sleep(seconds)
    projecting.cancel()
    ended, _ = await asyncio.wait([projecting], timeout=60)
    assert ended


@pytest.mark.parametrize("client", [admin, producer, reader])
async def test_a_cancel_counts_that_comes_while_a_client_of_kafka_ends(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, client: Any
) -> None:
    end = AIOKafkaClient.close

    async def cancelled_meanwhile(of: AIOKafkaClient) -> None:
        asyncio.get_running_loop().call_soon(using.cancel)
        await end(of)

    async def use() -> None:
        async with client(settings.bootstrap_servers):
            pass

    monkeypatch.setattr(AIOKafkaClient, "close", cancelled_meanwhile)
    using = asyncio.create_task(use())
    with pytest.raises(asyncio.CancelledError):
        await using


async def test_what_was_parked_is_applied_in_order_at_the_next_start(
    ledger: Ledger, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = ledger.hospital
    patient, creation = await hospital.admit()
    hospital.writer.cut(creation)
    right_key, patient.key = patient.key, ContentKey.generate()
    hospital.writer.cut(hospital.writer.add_note(patient, visit_note()))
    patient.key = right_key
    for _ in range(3):
        hospital.writer.cut(hospital.writer.add_note(patient, visit_note()))
    async with running(relay(ledger, settings).run()):
        async with running(projector(ledger, settings).run()):
            await as_of(ledger, 4)
        assert await rows(hospital.database, care.note) == []
        assert len(await rows(hospital.database, care.parked)) == 1
        monkeypatch.setattr("emr_indexer.projector.contents.Contents.note", lambda *_: None)
        async with running(projector(ledger, settings).run()):

            async def nothing_waits() -> bool:
                return await rows(hospital.database, care.parked) == []

            await eventually(nothing_waits)
    assert [note["version"] for note in await rows(hospital.database, care.note)] == [1, 2, 3, 4]
    (letter,) = await rows(hospital.database, care.dead_letter)
    assert letter["resolved_at"] is not None


async def test_a_partition_that_stopped_comes_again_once_a_person_lets_it_go_on(
    ledger: Ledger, settings: KafkaSettings
) -> None:
    """faust must not have acknowledged what stopped it, nor what stands behind it."""
    database = ledger.hospital.database
    topics = Topics(settings.topic_prefix)
    await ensure_topics(settings.bootstrap_servers, topics)
    async with producer(settings.bootstrap_servers) as client:
        await client.send_and_wait(topics.events, b"no message", partition=4)
    ledger.hospital.writer.genesis()
    async with running(relay(ledger, settings).run()):
        service = projector(ledger, settings)

        async def others_are_in() -> bool:
            return await query(database, "select count(*) from care.position where block = 0") == [(5,)]

        with pytest.raises(PartitionReleased):
            async with running(service.run()) as projecting:
                await eventually(others_are_in)
                assert not service.checks["partitions"]()
                async with database.begin() as connection:
                    await connection.execute(sa.update(care.dead_letter).values(resolved_at=sa.func.now()))
                await asyncio.wait([projecting], timeout=60)
        async with running(projector(ledger, settings).run()):
            await as_of(ledger, 0)


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_kafka_that_was_away_loses_nothing(
    ledger: Ledger, settings: KafkaSettings, kafka: KafkaServer, way: str
) -> None:
    async with running(relay(ledger, settings).run()), running(projector(ledger, settings).run()) as projecting:
        await admit_with_notes(ledger, 2)
        await as_of(ledger, 2)
        await asyncio.to_thread(getattr(kafka, way))
        before = ledger.taken
        await admit_with_notes(ledger, 3)
        for _ in range(10 * QUEUED_BLOCKS):
            ledger.hospital.writer.genesis()
        await asyncio.sleep(AWAY_SECONDS)
        assert ledger.taken - before <= HELD_BLOCKS, "however long Kafka is away, the rest stays with the peer"
        await asyncio.to_thread(kafka.start)
        await as_of(ledger, 6 + 10 * QUEUED_BLOCKS)
        assert not projecting.done()
    assert [sorted(set(marks)) for marks in await _marks(settings)] == [list(range(7 + 10 * QUEUED_BLOCKS))] * 6
    assert len(await rows(ledger.hospital.database, care.note)) == 5
    assert await rows(ledger.hospital.database, care.dead_letter) == []


async def test_topics_are_made_once_and_only_as_they_must_be(settings: KafkaSettings) -> None:
    topics = Topics(settings.topic_prefix)
    await ensure_topics(settings.bootstrap_servers, topics)
    await ensure_topics(settings.bootstrap_servers, topics)
    async with admin(settings.bootstrap_servers) as client:
        assert set(topics.settings) <= set(await client.list_topics())
        await client.delete_topics([topics.events])
        await asyncio.sleep(0.5)
        await client.create_topics([NewTopic(topics.events, 2, 1)])
    with pytest.raises(TopicsUnusable):
        await ensure_topics(settings.bootstrap_servers, topics)
