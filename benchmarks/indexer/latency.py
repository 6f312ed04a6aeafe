"""From a block to its rows, and from a kill -9 of relay or projector to the next one's:
`python -m benchmarks.indexer.latency`.

Relay, projector, Kafka and Postgres are processes of their own, the peer is a file of blocks that grows. A block counts
as visible once a reader of another connection finds it in ``as_of_block``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from crash.pipeline import RELAYS, Processes
from crash.pipeline_process import BlockFile, log_briefly
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_common.settings import KafkaSettings
from emr_indexer.kafka import ensure_topics
from emr_indexer.projector import store
from emr_indexer.projector.worker import SESSION_SECONDS
from emr_readmodel import engine, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.kafka import KafkaServer, kafka_server
from support.ledger_writer import Patient, visit_note
from support.postgres import PostgresServer, empty_database, postgres_server
from support.read_model import Hospital

BLOCK_SECONDS = 0.04
PATIENTS = 50
LOOK_SECONDS = 0.002
WARM_UP_BLOCKS = 50
SETTLING_SECONDS = 15.0
"""Until whoever was started has joined its group, and what was killed is known to be gone."""


class Reader:
    """When each block became visible, by a clock that never goes back."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database
        self.seen: dict[int, float] = {}
        self.block = -1

    async def look(self) -> None:
        query = sa.text("select coalesce(min(block), -1) from care.position")
        async with self._database.connect() as connection:
            while True:
                block = (await connection.scalars(query)).one()
                await connection.rollback()
                now = time.perf_counter()
                for number in range(self.block + 1, block + 1):
                    self.seen[number] = now
                self.block = block
                await asyncio.sleep(LOOK_SECONDS)

    async def until(self, block: int) -> None:
        while self.block < block:
            await asyncio.sleep(0.01)


class Writer:
    def __init__(self, hospital: Hospital, file: BlockFile) -> None:
        self._hospital = hospital
        self._file = file
        self._patients: list[Patient] = []
        self.written: dict[int, float] = {}

    async def begin(self) -> None:
        admitted = [await self._hospital.admit() for _ in range(PATIENTS)]
        self._patients = [patient for patient, _ in admitted]
        self._file.append(self._hospital.writer.cut(*(creation for _, creation in admitted)))

    def cut(self, notes: int) -> int:
        chosen = random.sample(self._patients, min(notes, PATIENTS))
        block = self._hospital.writer.cut(*(self._hospital.writer.add_note(each, visit_note()) for each in chosen))
        self._file.append(block)
        self.written[block.number] = time.perf_counter()
        return block.number


async def latencies(writer: Writer, reader: Reader, rate: float, seconds: float) -> list[float]:
    """Milliseconds of each block, cut every 40 ms with what came meanwhile, as an orderer does."""
    first = last = -1
    started, notes = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        due = round(passed * rate) - notes
        if due:
            last = writer.cut(due)
            first = last if first < 0 else first
            notes += due
        await asyncio.sleep(BLOCK_SECONDS)
    await reader.until(last)
    numbers = range(first + WARM_UP_BLOCKS, last + 1)
    return [(reader.seen[each] - writer.written[each]) * 1000 for each in numbers if each in writer.written]


async def takeovers(writer: Writer, reader: Reader, processes: Processes, count: int) -> list[float]:
    """Seconds from the kill -9 of the relay that leads, the other standing by, to the next block's rows."""
    taken = []
    for number in range(count):
        leading = RELAYS[number % 2]
        processes.stop(leading)
        killed = time.perf_counter()
        await reader.until(writer.cut(1))
        taken.append(time.perf_counter() - killed)
        processes.start(leading)
        await asyncio.sleep(SETTLING_SECONDS)  # it stands by again
    return taken


async def successions(
    writer: Writer, reader: Reader, processes: Processes, count: int, *, is_back: bool
) -> list[float]:
    """Seconds from the kill -9 of the projector that was started first to the next block's rows. ``is_back``: it is
    started again at once, as a supervisor does; else the other one takes its partitions.
    """
    taken = []
    for _ in range(count):
        processes.stop("projector")
        killed = time.perf_counter()
        if is_back:
            processes.start("projector")
        await reader.until(writer.cut(1))
        taken.append(time.perf_counter() - killed)
        if not is_back:
            processes.start("projector")
        await asyncio.sleep(SETTLING_SECONDS)
    return taken


async def main(given: argparse.Namespace, kafka: KafkaServer, postgres: PostgresServer, folder: Path) -> None:
    log_briefly()
    (folder / "wrapping.keyset").write_text(new_wrapping_keyset())
    async with empty_database(postgres) as url:
        await migrate.upgrade(url)
        told = {"database": url, "kafka": list(kafka.bootstrap_servers), "session_seconds": SESSION_SECONDS}
        (folder / "settings.json").write_text(json.dumps(told))
        database = engine.create(url, 3)
        await store.prepare(database)
        settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix="crash")
        await ensure_topics(settings.bootstrap_servers, settings.topics)
        hospital = Hospital(database, WrappingKey.from_file(folder / "wrapping.keyset"))
        writer, reader = Writer(hospital, BlockFile(folder / "blocks")), Reader(database)
        await writer.begin()
        processes = Processes(folder)
        looking = asyncio.create_task(reader.look())
        try:
            processes.start(RELAYS[0])
            processes.start("projector")
            await reader.until(0)
            _tell(await latencies(writer, reader, given.rate, given.seconds), given.rate)
            processes.start(RELAYS[1])
            await asyncio.sleep(SETTLING_SECONDS)
            count = given.takeovers
            _tell_longest("the leading relay", await takeovers(writer, reader, processes, count))
            alone = await successions(writer, reader, processes, count, is_back=True)
            _tell_longest("the only projector, started again at once", alone)
            processes.start("projector-2")
            await asyncio.sleep(SETTLING_SECONDS)
            back = await successions(writer, reader, processes, count, is_back=True)
            _tell_longest("one of two projectors, started again at once", back)
            away = await successions(writer, reader, processes, count, is_back=False)
            _tell_longest(f"one of two projectors, not started again (session {SESSION_SECONDS:g} s)", away)
        finally:
            processes.end()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await database.dispose()


def _tell_longest(whose: str, taken: list[float]) -> None:
    if taken:
        print(f"kill -9 of {whose}, to the next block's rows: median {median(taken):.2f} s,", end=" ")
        print(f"longest {max(taken):.2f} s of {len(taken)}")


def _tell(found: list[float], rate: float) -> None:
    cuts = quantiles(found, n=100)
    print(f"{len(found)} blocks, {rate:g} notes/s: visible after {median(found):.1f} ms (p50),", end=" ")
    print(f"{cuts[94]:.1f} ms (p95), {cuts[98]:.1f} ms (p99, aim 50)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=15.0, help="notes a second: half of what two cores commit")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--takeovers", type=int, default=5)
    with postgres_server() as server, kafka_server() as broker, tempfile.TemporaryDirectory() as made:
        asyncio.run(main(parser.parse_args(), broker, server, Path(made)))
