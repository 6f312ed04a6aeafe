"""The relay's stages, each with a queue to the next: one failure stops all; the relay begins again from Kafka's end.

receive (peer → blocks) ── read (blocks → messages) ── publish (messages → Kafka) ── acknowledge (→ topic of blocks)
"""

from __future__ import annotations

import asyncio
from asyncio import Queue
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka import AIOKafkaProducer
from emr_model.ledger.events import Topics, encode
from hlf.blocks import Block, Checkpoint

from emr_indexer.relay import metrics
from emr_indexer.relay.batches import send_in_order
from emr_indexer.relay.facts import BlockFacts, BlockReader
from emr_indexer.relay.traces import Traces

QUEUED_BLOCKS = 32

BlockSource = Callable[[Checkpoint | None], AsyncIterator[Block]]
"""The channel's blocks after a checkpoint, without end; from block 0 without one."""

T = TypeVar("T")


class Stages:
    """One run from a checkpoint on. ``run`` ends only by raising what a stage raised, in an ExceptionGroup."""

    def __init__(
        self,
        blocks: BlockSource,
        reader: BlockReader,
        producer: AIOKafkaProducer,
        topics: Topics,
        on_missing_contents: Callable[[int], None] = lambda _: None,
        traces: Traces | None = None,
    ) -> None:
        """``on_missing_contents`` hears of blocks of which the peer did not hold everything."""
        self._on_missing_contents = on_missing_contents
        self._blocks = blocks
        self._reader = reader
        self._producer = producer
        self._topics = topics
        self._traces = traces

    async def run(self, checkpoint: Checkpoint | None) -> None:
        blocks: Queue[Block] = Queue(QUEUED_BLOCKS)
        facts: Queue[BlockFacts] = Queue(QUEUED_BLOCKS)
        async with asyncio.TaskGroup() as stages:
            stages.create_task(self._receive(checkpoint, outgoing_blocks=blocks))
            stages.create_task(self._read(incoming_blocks=blocks, outgoing_facts=facts))
            stages.create_task(self._publish(incoming_facts=facts))

    async def _receive(self, checkpoint: Checkpoint | None, outgoing_blocks: Queue[Block]) -> None:
        async for block in self._blocks(checkpoint):
            await outgoing_blocks.put(block)

    async def _read(self, incoming_blocks: Queue[Block], outgoing_facts: Queue[BlockFacts]) -> None:
        while True:
            block = await incoming_blocks.get()
            await outgoing_facts.put(self._reader.read(block))

    async def _publish(self, incoming_facts: Queue[BlockFacts]) -> None:
        """Takes all blocks that wait, but nothing of a later one goes out before Kafka has all of an earlier one's.

        Otherwise an event that failed could come again behind a later one about the same EMR, and would then be taken
        for a repetition.
        """
        while True:
            waiting = await _take_all(incoming_facts)
            messages = [message for facts in waiting for message in facts.messages]
            letters = [letter for facts in waiting for letter in facts.dead_letters]
            ids = {event.transaction_id for facts in waiting for event in facts.events}
            async with _carried(self._traces, self._topics.events, ids) as traceparents:
                await send_in_order(self._producer, self._topics, messages, traceparents)
            for letter in letters:
                await self._producer.send_and_wait(self._topics.dead_letters, encode(letter), letter.id.encode(), 0)
            await self._acknowledge(waiting)

    async def _acknowledge(self, published: Sequence[BlockFacts]) -> None:
        """Kafka has everything up to the last of these blocks: its mark says so to the next relay."""
        mark = published[-1].mark
        await self._producer.send_and_wait(self._topics.blocks, encode(mark), mark.channel.encode(), 0)
        for facts in published:
            _count(facts)
            if facts.missing_contents:
                self._on_missing_contents(facts.mark.block)


@asynccontextmanager
async def _carried(traces: Traces | None, topic: str, transaction_ids: set[str]) -> AsyncIterator[Mapping[str, str]]:
    if traces is None:
        yield {}
        return
    async with traces.publishing(topic, transaction_ids) as traceparents:
        yield traceparents


async def _take_all(queue: Queue[T]) -> list[T]:
    taken = [await queue.get()]
    while not queue.empty():
        taken.append(queue.get_nowait())
    return taken


def _count(facts: BlockFacts) -> None:
    metrics.BLOCK.set(facts.mark.block)
    metrics.BLOCK_TIME.set(facts.mark.at.timestamp())
    metrics.MISSING_CONTENTS.inc(facts.missing_contents)
    for event in facts.events:
        metrics.EVENTS.labels(event.object_type).inc()
    for letter in facts.dead_letters:
        metrics.DEAD_LETTERS.labels(letter.code).inc()
