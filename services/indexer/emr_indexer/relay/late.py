"""Contents that the peer did not hold when it delivered their block, and that it has reconciled since.

The facts went on without them and left placeholders. Their blocks are asked for again, and the events that now have
their content go out once more: same id, and the projector fills the rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from aiokafka import AIOKafkaProducer
from emr_model.ledger.events import Topics
from emr_model.ledger.values import Life
from emr_readmodel import care, hospital
from hlf.blocks import Block
from hlf.errors import HlfError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.relay import metrics
from emr_indexer.relay.batches import send_in_order
from emr_indexer.relay.facts import BlockReader

LOOK_SECONDS = 5.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 600.0
BLOCKS_AT_ONCE = 50

FetchBlock = Callable[[int], Awaitable[Block]]
"""A block as the peer has it now."""

log = structlog.get_logger(__name__)


@dataclass
class _Turn:
    """When a block is asked for next, and how long after that again."""

    due_seconds: float
    wait_seconds: float = FIRST_WAIT_SECONDS


class LateContents:
    """``expect`` is told of blocks as they are relayed; what an earlier relay saw is known by its placeholders."""

    def __init__(self, engine: AsyncEngine, fetch: FetchBlock, reader: BlockReader, topics: Topics) -> None:
        self._engine = engine
        self._fetch = fetch
        self._reader = reader
        self._topics = topics
        self._turns: dict[int, _Turn] = {}
        self._sent: set[str] = set()

    def expect(self, block: int) -> None:
        """Something of the block was not there."""
        self._turns.setdefault(block, _Turn(time.monotonic() + FIRST_WAIT_SECONDS))

    async def run(self, producer: AIOKafkaProducer) -> None:
        """Until cancelled. Raises what Kafka and Postgres raise; a peer that fails is asked at the next turn."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for block in await self._with_placeholders():
                self.expect(block)
            now = time.monotonic()
            for number in [number for number, turn in self._turns.items() if turn.due_seconds <= now][:BLOCKS_AT_ONCE]:
                await self._ask(producer, number)

    async def _ask(self, producer: AIOKafkaProducer, number: int) -> None:
        turn = self._turns[number]
        try:
            facts = self._reader.read(await self._fetch(number))
        except HlfError as error:
            log.warning("block_not_had_again", block=number, exc_info=error)
        else:
            late = [event for event in facts.events if event.sealed is not None and event.id not in self._sent]
            if late:
                await send_in_order(producer, self._topics, late)
                self._sent.update(event.id for event in late)
                metrics.LATE_CONTENTS.inc(len(late))
                log.info("late_contents", block=number, contents=len(late))
            if not facts.missing_contents:
                del self._turns[number]
                return
        turn.due_seconds = time.monotonic() + turn.wait_seconds
        turn.wait_seconds = min(2 * turn.wait_seconds, LONGEST_WAIT_SECONDS)

    async def _with_placeholders(self) -> list[int]:
        """Blocks of own notes without content, of EMRs that have a key and were not erased."""
        note, emr, key = care.note.c, care.emr.c, hospital.emr_key.c
        query = (
            sa.select(note.block)
            .distinct()
            .join(care.emr, emr.emr_id == note.emr_id)
            .join(hospital.emr_key, key.emr_id == note.emr_id)
            .where(note.content.is_(None), emr.life != Life.ERASED.value)
            .limit(BLOCKS_AT_ONCE)
        )
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query))
