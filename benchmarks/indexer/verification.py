"""Every row compared with a large ledger, at once and part by part: `python -m benchmarks.indexer.verification`.

How long it takes, how much memory, and how long a block waits for the same process' projector meanwhile. The ledger is
a file that another process has written, so that this one holds no block longer than the indexer does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from crash.pipeline_process import BlockFile, WalkedBlocks
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_indexer.jobs.rebuild import Rebuild
from emr_indexer.jobs.shadow import Source
from emr_indexer.jobs.store import Job, JobKind
from emr_indexer.jobs.verification import Verification
from emr_indexer.jobs.walk import Pace, Walk
from emr_indexer.projector import store
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.events import PARTITIONS
from emr_readmodel import engine, migrate
from hlf.blocks import Block
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import CHANNEL, NAMESPACE, LedgerWriter, Patient, visit_note
from support.postgres import PostgresServer, empty_database, postgres_server
from support.read_model import PSEUDONYM_KEY, Hospital, records

from benchmarks.indexer.__main__ import Meter

NOTES_A_BLOCK = 10
NOTES_AN_EMR = 10
LIVE_SECONDS = 0.1


class KeptBlocks(WalkedBlocks):
    """A file of blocks, read one at a time, and those that come behind it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.new: list[Block] = []

    async def last(self) -> int:
        return await super().last() + len(self.new)

    async def one(self, number: int) -> Block:
        behind = number - await super().last() - 1
        return await super().one(number) if behind < 0 else self.new[behind]


async def write(folder: Path, url: str, notes: int) -> None:
    """The ledger's file, and keys in the database."""
    database = engine.create(url, 2)
    hospital, file = Hospital(database, WrappingKey.from_file(folder / "wrapping.keyset")), BlockFile(folder / "blocks")
    writer = hospital.writer

    def cut(*transactions: Any) -> None:
        block = writer.cut(*transactions)
        file.append(block)
        if block.number > 0:
            writer.blocks[block.number - 1] = None  # type: ignore[call-overload]

    cut(writer.register("HospitalA"), writer.register("HospitalB"))
    patients: list[Patient] = []
    for _ in range(notes // NOTES_AN_EMR):
        patient, creation = await hospital.admit()
        cut(creation)
        patients.append(patient)
    for start in range(0, notes, NOTES_A_BLOCK):
        chosen = [patients[(start + number) % len(patients)] for number in range(NOTES_A_BLOCK)]
        cut(*(writer.add_note(patient, visit_note()) for patient in chosen))
    await database.dispose()


class Live:
    """A block of one note every now and then, projected as the projector does it: how long each takes."""

    def __init__(self, hospital: Hospital, blocks: KeptBlocks) -> None:
        self._hospital = hospital
        self._blocks = blocks
        self._taken: list[float] = []

    async def run(self) -> None:
        last = await self._blocks.last()
        written = [*itertools.repeat(await self._blocks.one(last), last + 1)]  # the last one counts
        writer = self._hospital.writer = LedgerWriter(blocks=written, _numbers=itertools.count(10_000_000))
        patient, creation = await self._hospital.admit()
        await self._project(writer.cut(creation))
        while True:
            await asyncio.sleep(LIVE_SECONDS)
            self._taken.append(await self._project(writer.cut(writer.add_note(patient, visit_note()))))

    async def _project(self, block: Block) -> float:
        self._blocks.new.append(block)
        due = time.perf_counter()
        await asyncio.sleep(0)
        await self._hospital.projector.project(records([block]))
        return 1000 * (time.perf_counter() - due)

    def waited(self) -> str:
        taken, self._taken = self._taken, []
        if len(taken) < 2:
            return "too short to tell"
        return f"{median(taken):.1f} ms, {quantiles(taken, n=100)[98]:.1f} p99 of {len(taken)}"


async def measured(name: str, server: PostgresServer, live: Live, work: Callable[[], Awaitable[Any]]) -> None:
    meter, process, peak = Meter(server), psutil.Process(), 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    live.waited()
    said = await work()
    taken = meter.taken()
    watching.cancel()
    print(
        f"{name:<34} {taken.seconds:7.1f} s {taken.cpu_seconds:7.1f} s of CPU {peak / 2**20:6.0f} MiB; "
        f"a block meanwhile: {live.waited()}  {said}",
        flush=True,
    )


async def measure(server: PostgresServer, url: str, folder: Path, notes: int) -> None:
    database = engine.create(url, 10)
    blocks = KeptBlocks(folder / "blocks")
    hospital = Hospital(database, WrappingKey.from_file(folder / "wrapping.keyset"))

    def projector(on: AsyncEngine, partitions: int, locks: int) -> Projector:
        return Projector(on, "HospitalA", hospital.wrapping, Pseudonyms(PSEUDONYM_KEY), partitions, locks)

    async def told(_: Any) -> None: ...

    async def whole() -> str:
        result = await Verification(database, source).do(_job(JobKind.VERIFICATION), told)
        return f"{result['rows']} rows, {result['found']} differ"

    async def part(pace: Pace) -> str:
        compared = await Walk(database, source, pace).one_part()
        return f"{compared.rows} rows, {compared.found} differ"

    source = Source(blocks, BlockReader(CHANNEL, NAMESPACE, "HospitalA"), projector)
    await store.prepare(database)
    live = Live(hospital, blocks)
    await measured(
        "rebuild", server, live, lambda: Rebuild(database, source, PARTITIONS).do(_job(JobKind.REBUILD), told)
    )
    living = asyncio.create_task(live.run())
    await measured("nothing, for 20 s", server, live, lambda: asyncio.sleep(20))
    await measured("verification of everything", server, live, whole)
    await measured("a sixteenth, as fast as it goes", server, live, lambda: part(Pace(0, 0, 1e6, 1e6, 0, 0)))
    if notes <= 20_000:
        await measured("a sixteenth, at the pace of services", server, live, lambda: part(Pace()))
    living.cancel()
    with suppress(asyncio.CancelledError):
        await living
    await database.dispose()


def _job(kind: JobKind) -> Job:
    return Job("j", kind, {}, "running", None, None, None, None, None, None)  # type: ignore[arg-type]


async def main(notes: int, server: PostgresServer, folder: Path) -> None:
    (folder / "wrapping.keyset").write_text(new_wrapping_keyset())
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        command = [sys.executable, "-m", "benchmarks.indexer.verification", "--write", str(folder), url]
        began = time.monotonic()
        writing = await asyncio.create_subprocess_exec(*command, "--notes", str(notes))
        assert await writing.wait() == 0
        size = (folder / "blocks").stat().st_size / 2**20
        print(f"{notes} notes of {notes // NOTES_AN_EMR} EMRs, {size:.0f} MiB: {time.monotonic() - began:.0f} s")
        await measure(server, url, folder, notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=50_000)
    parser.add_argument("--write", nargs=2, metavar=("FOLDER", "URL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        asyncio.run(write(Path(given.write[0]), given.write[1], given.notes))
    else:
        with postgres_server() as postgres, tempfile.TemporaryDirectory() as made:
            asyncio.run(main(given.notes, postgres, Path(made)))
