"""Rounds of kill -9 and SIGSTOP of relay, projector, Kafka and Postgres while notes are written.

After a round hospital A's rows must be, table by table, what a replay of the ledger's blocks gives that shares no code
with the projector: a row that is lost, doubled or wrong shows in a digest. What a writer was told is committed must be
among the rows.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emr_common.sealing import ContentKey, WrappingKey
from emr_common.settings import LedgerSettings
from emr_deploy.callers import Unreachable
from emr_indexer.peer import PeerBlocks, peer_blocks
from emr_network.material import peer_organization
from emr_readmodel import engine as engines
from hlf.blocks import Checkpoint
from sqlalchemy.ext.asyncio import AsyncEngine
from support.reference_replay import Reference, actual, content_keys, expected
from support.stack import Actor, Stack, running_stack

VICTIMS = ("relay-a", "projector-a", "kafka", "postgres")
STOPPED = ("relay-a", "projector-a")
WRITERS = 3
LONGEST_LOAD_SECONDS = 3.0
CATCH_UP_SECONDS = 180.0


@dataclass
class Summary:
    rounds: int = 0
    blocks: int = 0
    acknowledged: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds (killed: {dict(self.killed)}, stopped: {dict(self.stopped)}): {self.blocks} blocks, "
            f"{self.acknowledged} notes acknowledged, 0 lost, 0 doubled; every table as the reference replay"
        )


class IndexerRounds:
    """Each call of `run` is one round; whatever is wrong afterwards is an AssertionError."""

    def __init__(self, stack: Stack, chance: random.Random, stop_seconds: float, blocks: PeerBlocks) -> None:
        self.summary = Summary()
        self._stack = stack
        self._chance = chance
        self._stop_seconds = stop_seconds
        self._blocks = blocks
        self._checkpoint: Checkpoint | None = None
        self._keys: dict[str, ContentKey] = {}
        self._told: set[tuple[str, int]] = set()
        self._reference = Reference(
            stack.msp_id("a"), self._keys, stack.home.secret("a", "pseudonym.key").read_bytes().strip()
        )
        self._wrapping = WrappingKey.from_file(stack.home.secret("a", "wrapping.keyset"))
        self._physician: Actor | None = None
        self._patients: list[Actor] = []

    async def begin(self) -> None:
        healthcenter = await self._stack.staff("a", "healthcenter")
        self._physician = await self._stack.staff("a", "physician")
        self._patients = [await self._stack.patient(healthcenter) for _ in range(WRITERS)]

    async def run(self) -> None:
        writing = [asyncio.create_task(self._write(patient)) for patient in self._patients]
        try:
            await asyncio.sleep(self._chance.uniform(0, LONGEST_LOAD_SECONDS))
            await self._strike()
            await asyncio.sleep(self._chance.uniform(0, LONGEST_LOAD_SECONDS))
        finally:
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
        await self._stack.ready(*(process.name for process in self._stack.system.processes))
        await self._check()
        self.summary.rounds += 1

    async def _strike(self) -> None:
        if self._chance.random() < 0.2:
            victim = self._chance.choice(STOPPED)
            pid = self._stack.system.supervisor.process(victim).pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(self._stop_seconds)
            os.kill(pid, signal.SIGCONT)
            self.summary.stopped[victim] += 1
            return
        for victim in self._chance.sample(VICTIMS, self._chance.choice((1, 1, 2))):
            await self._stack.kill(victim)
            self.summary.killed[victim] += 1

    async def _write(self, patient: Actor) -> None:
        assert self._physician is not None
        while True:
            path = f"/emrs/{patient.emr_id}/notes"
            try:
                answer = await self._stack.call(self._physician, "records", "POST", path, {"text": "Seen."})
            except Unreachable:
                continue
            assert answer.status in (201, 202, 409, 429, 500, 503), answer.body
            if answer.status == 201:
                self._told.add((patient.emr_id, answer.body["version"]))
                self.summary.acknowledged += 1
            else:
                await asyncio.sleep(0.1)

    async def _check(self) -> None:
        last = self._stack.height - 1
        await self._stack.until(lambda: self._has(last), f"rows up to block {last}", CATCH_UP_SECONDS)
        async with self._database() as database:
            self._keys.update(await content_keys(database, self._wrapping))
            async for block in self._blocks.up_to(last, self._checkpoint):
                self._reference.read([block])
                self._checkpoint = block.checkpoint
                self.summary.blocks += 1
            assert await actual(database) == expected(self._reference), "rows are not what the ledger says"
        assert self._told <= self._reference.tables["note"].keys(), "an acknowledged note is lost"

    async def _has(self, block: int) -> bool:
        position = await self._stack.as_of("a")
        return position is not None and position >= block

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[AsyncEngine]:
        engine = engines.create(self._stack.home.secret("a", "database-url").read_text(), 2)
        try:
            yield engine
        finally:
            await engine.dispose()


@asynccontextmanager
async def crashing_indexer(stack: Stack, seed: int, stop_seconds: float) -> AsyncIterator[IndexerRounds]:
    folder = peer_organization(stack.home, stack.hospital("a"))
    ledger = LedgerSettings(
        endpoints=(stack.system.ports.address("peer-a"),),
        tls_ca_file=folder.tls_ca_certificate,
        identity_dir=folder.user("service"),
    )
    async with peer_blocks(stack.msp_id("a"), ledger) as blocks:
        rounds = IndexerRounds(stack, random.Random(seed), stop_seconds, blocks)
        await rounds.begin()
        yield rounds


@asynccontextmanager
async def crashing_system(folder: Path, seed: int) -> AsyncIterator[IndexerRounds]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_stack(folder))
        yield await stack.enter_async_context(crashing_indexer(running, seed, stop_seconds=30))
