"""A shadow of schema ``care``, filled from the peer's blocks while the old schema serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from emr_model.ledger.events import LedgerEvent, Message
from emr_readmodel import care
from hlf.blocks import Block, Checkpoint
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.postgres import persistently
from emr_indexer.projector import store
from emr_indexer.projector.changes import Refused
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.records import Record
from emr_indexer.relay.facts import BlockFacts, BlockReader

MESSAGES_AT_ONCE = 200
"""The projector, of the same process, waits while they are made into rows."""

TELL_SECONDS = 1.0

IsOf = Callable[[str], bool]
"""Whether a subject's facts are wanted."""

Told = Callable[[int], Awaitable[None]]
"""Hears up to which block the shadow is filled."""


class Blocks(Protocol):
    """What a shadow is filled from; ``emr_indexer.peer.PeerBlocks`` is it."""

    def up_to(self, last: int, after: Checkpoint | None = None) -> AsyncIterator[Block]: ...

    async def last(self) -> int: ...

    async def one(self, number: int) -> Block: ...


@dataclass(frozen=True)
class Source:
    """Where the rows come from, and who makes them: ``projector`` gets the engine on which it is to work."""

    blocks: Blocks
    reader: BlockReader
    projector: Callable[[AsyncEngine, int, int], Projector]
    """Of an engine, a number of partitions and the advisory locks that they take."""


class Shadow:
    """Filled through one partition: a block's facts in the order of the ledger, or those about some subjects only."""

    def __init__(
        self,
        engine: AsyncEngine,
        source: Source,
        name: str,
        locks: int = store.SHADOW_LOCKS,
        is_of: IsOf = lambda subject: True,
    ) -> None:
        self._engine = engine
        self._is_of = is_of
        self._source = source
        self._name = name
        self._locks = locks
        self.engine = engine.execution_options(schema_translate_map={care.SCHEMA: name})
        self._projector = source.projector(self.engine, 1, locks)
        self._checkpoint: Checkpoint | None = None

    @property
    def block(self) -> int:
        """Everything up to this block is in; -1 before the first."""
        return -1 if self._checkpoint is None else self._checkpoint.block_number

    async def make(self, generation: str | None = None) -> None:
        """Empty; what an earlier attempt left behind is dropped. ``generation`` is by default that of ``care``."""
        async with self._engine.begin() as connection:
            await store.lock_partitions(connection, [0], self._locks)
            query = sa.select(care.generation.c.id, care.generation.c.reached)
            row = dict((await connection.execute(query)).mappings().one())
            await connection.execute(sa.select(sa.func.hospital.make_shadow(self._name)))
        async with self.engine.begin() as connection:
            await connection.execute(sa.insert(care.generation).values({**row, "id": generation or row["id"]}))
        await store.prepare(self.engine, 1)

    async def resume(self, generation: str) -> bool:
        """Whether one of this generation was left behind half filled: then it is filled on from where it was."""
        async with self._engine.connect() as connection:
            if not await store.has_shadow(connection, self._name):
                return False
        async with self.engine.connect() as connection:
            found = await connection.scalar(sa.select(care.generation.c.id))
            block = await connection.scalar(sa.select(sa.func.min(care.position.c.block)))
        if found != generation or block is None:
            return False
        if block >= 0:
            self._checkpoint = (await self._source.blocks.one(block)).checkpoint
        return True

    async def drop(self) -> None:
        async with self._engine.begin() as connection:
            await store.lock_partitions(connection, [0], self._locks)
            await connection.execute(sa.select(sa.func.hospital.drop_shadow(self._name)))

    async def fill(self, last: int, told: Told) -> None:
        """Up to block ``last``. Raises DeliverError when the chain is broken."""
        pending: list[BlockFacts] = []
        messages = 0
        told_at_seconds = time.monotonic()
        async with aclosing(self._source.blocks.up_to(last, self._checkpoint)) as blocks:  # type: ignore[type-var]
            async for block in blocks:
                await asyncio.sleep(0)
                facts = self._source.reader.read(block)
                pending.append(facts)
                messages += len(facts.messages)
                if messages >= MESSAGES_AT_ONCE or block.number == last:
                    await self._project(pending)
                    self._checkpoint = block.checkpoint
                    pending, messages = [], 0
                if time.monotonic() - told_at_seconds > TELL_SECONDS:
                    await told(self.block)
                    told_at_seconds = time.monotonic()

    async def _project(self, pending: list[BlockFacts]) -> None:
        letters = [Refused.by_relay(letter) for facts in pending for letter in facts.dead_letters]
        await persistently(lambda: self._put_letters(letters))
        messages: list[Message] = [message for facts in pending for message in facts.messages if self._wants(message)]
        records = [Record(0, number, b"", decoded=message) for number, message in enumerate(messages)]
        await self._projector.project(records)
        if self._projector.stopped:
            raise RuntimeError("a shadow's only partition stopped")

    def _wants(self, message: Message) -> bool:
        return not isinstance(message, LedgerEvent) or self._is_of(message.subject)

    async def _put_letters(self, letters: list[Refused]) -> None:
        async with self.engine.begin() as connection:
            await store.put_dead_letters(connection, letters)
