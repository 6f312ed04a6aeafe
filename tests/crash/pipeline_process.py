"""One process of the pipeline, until it is killed: `python pipeline_process.py relay|projector|walker FOLDER`.

Relay and projector are the real ones; the peer is a file of blocks that grows. The walk through all rows, which is part
of a projector, has a process of its own, so that it is killed at other moments too.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from emr_common.sealing import WrappingKey
from emr_common.settings import KafkaSettings
from emr_common.telemetry import describe_failure
from emr_indexer.jobs.runner import JobRunner
from emr_indexer.jobs.shadow import Source
from emr_indexer.jobs.walk import Pace, Walk
from emr_indexer.kafka import log_sparsely
from emr_indexer.projector import worker
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.service import ProjectorService
from emr_indexer.relay.facts import BlockReader
from emr_indexer.relay.relay import Kafka, Relay, RelayState
from emr_readmodel import engine
from hlf.blocks import Block, Checkpoint
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import CHANNEL, NAMESPACE
from support.read_model import PSEUDONYM_KEY

LENGTH_BYTES = 4
LOOK_SECONDS = 0.003
SESSION_SECONDS = 6.0
"""The shortest that Kafka allows: a killed projector's partitions wait that long."""

WALK_PACE = Pace(0, 0.1, 1000, 86_400, 0, 0.2)


class BlockFile:
    """Blocks one after the other, each behind its length. What is not whole yet is not there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: list[bytes] = []

    def written(self, start: int, stop: int | None = None) -> list[Block]:
        """Blocks that this object appended, as their readers find them: reading leaves traces in the originals."""
        return [pickle.loads(data) for data in self._written[start:stop]]

    def append(self, block: Block) -> None:
        data = pickle.dumps(block)
        self._written.append(data)
        with self._path.open("ab") as file:
            file.write(len(data).to_bytes(LENGTH_BYTES) + data)

    async def after(self, checkpoint: Checkpoint | None) -> AsyncIterator[Block]:
        number = 0 if checkpoint is None else checkpoint.block_number + 1
        with self._path.open("rb") as file:
            while True:
                start = file.tell()
                length = int.from_bytes(file.read(LENGTH_BYTES) or b"")
                data = file.read(length)
                if length and len(data) == length:
                    block: Block = pickle.loads(data)
                    if block.number >= number:
                        yield block
                else:
                    file.seek(start)
                    await asyncio.sleep(LOOK_SECONDS)

    async def one(self, number: int) -> Block:
        async for block in self.after(None):
            if block.number == number:
                return block
        raise AssertionError


class WalkedBlocks:
    """The same file, block by block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts: list[int] = []
        self._end = 0

    async def last(self) -> int:
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            while self._end + LENGTH_BYTES <= size:
                file.seek(self._end)
                following = self._end + LENGTH_BYTES + int.from_bytes(file.read(LENGTH_BYTES))
                if following > size:
                    break
                self._starts.append(self._end)
                self._end = following
        return len(self._starts) - 1

    async def one(self, number: int) -> Block:
        assert number <= await self.last()
        with self._path.open("rb") as file:
            file.seek(self._starts[number] + LENGTH_BYTES)
            block: Block = pickle.load(file)
        return block

    async def up_to(self, last: int, after: Checkpoint | None = None) -> AsyncIterator[Block]:
        for number in range(0 if after is None else after.block_number + 1, last + 1):
            yield await self.one(number)


async def relay(folder: Path, database: AsyncEngine, kafka: KafkaSettings) -> None:
    blocks = BlockFile(folder / "blocks")
    reader = BlockReader(CHANNEL, NAMESPACE, "HospitalA")
    topics = Kafka(kafka.bootstrap_servers, kafka.topics)
    each = Relay(database, topics, CHANNEL, blocks.after, reader, blocks.one)
    running = asyncio.create_task(each.run())
    while each.state is not RelayState.RELAYING:
        await asyncio.sleep(0.01)
    print("relaying", flush=True)
    await running


async def projector(folder: Path, database: AsyncEngine, kafka: KafkaSettings) -> None:
    wrapping = WrappingKey.from_file(folder / "wrapping.keyset")
    projects = Projector(database, "HospitalA", wrapping, Pseudonyms(PSEUDONYM_KEY))
    await ProjectorService(database, kafka, projects).run()


async def walker(folder: Path, database: AsyncEngine, _: KafkaSettings) -> None:
    wrapping = WrappingKey.from_file(folder / "wrapping.keyset")

    def new_projector(on: AsyncEngine, partitions: int, locks: int) -> Projector:
        return Projector(on, "HospitalA", wrapping, Pseudonyms(PSEUDONYM_KEY), partitions, locks)

    source = Source(WalkedBlocks(folder / "blocks"), BlockReader(CHANNEL, NAMESPACE, "HospitalA"), new_projector)
    await JobRunner(database, {}, Walk(database, source, WALK_PACE).run).run()


def log_briefly() -> None:
    """As processes log them: structlog's own way of showing a traceback takes seconds."""
    structlog.configure(processors=[structlog.stdlib.add_log_level, describe_failure, structlog.dev.ConsoleRenderer()])
    log_sparsely()


async def main(kind: str, folder: Path) -> None:
    log_briefly()
    settings = json.loads((folder / "settings.json").read_text())
    worker.SESSION_SECONDS = settings.get("session_seconds", SESSION_SECONDS)
    prefix = settings.get("topic_prefix", "crash")
    kafka = KafkaSettings(bootstrap_servers=tuple(settings["kafka"]), topic_prefix=prefix)
    work = {"relay": relay, "projector": projector, "walker": walker}[kind]
    await work(folder, engine.create(settings["database"], 5), kafka)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
