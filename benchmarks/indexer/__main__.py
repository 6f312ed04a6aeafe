"""Kafka to Postgres against a raw asyncpg upsert of the same rows; a rebuild against reading the same blocks only.

Blocks are generated (tests/support/ledger_writer), Kafka and Postgres are real and in temporary folders. Both sides of
a comparison run in turns in one run, so that a busy moment hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import psutil
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from crash.pipeline import Processes
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_common.settings import KafkaSettings
from emr_indexer.jobs.rebuild import Rebuild
from emr_indexer.jobs.shadow import Source
from emr_indexer.jobs.store import Job, JobKind
from emr_indexer.kafka import ensure_topics, producer
from emr_indexer.projector import store
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.worker import BATCH_MESSAGES
from emr_indexer.relay.batches import send_in_order
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.events import PARTITIONS
from emr_readmodel import care, engine, hospital, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.kafka import kafka_server
from support.ledger_writer import CHANNEL, NAMESPACE, visit_note
from support.postgres import PostgresServer, empty_database, postgres_server
from support.read_model import PSEUDONYM_KEY, Hospital
from support.rebuilding import Blocks
from support.reference_replay import TABLES

NOTES_A_BLOCK = 10
LOOK_SECONDS = 0.03
SESSION_SECONDS = 20
"""Longer than projectors are held back while Kafka is filled."""
SETTLING_SECONDS = 20.0
"""Until each projector has its partitions."""


async def write_blocks(hospital_a: Hospital, notes: int) -> int:
    """Blocks of ten notes about different EMRs. Returns the number of blocks."""
    patients = []
    for _ in range(max(10, notes // 20)):
        patient, creation = await hospital_a.admit()
        hospital_a.writer.cut(creation)
        patients.append(patient)
    for start in range(0, notes, NOTES_A_BLOCK):
        chosen = [patients[(start + number) % len(patients)] for number in range(NOTES_A_BLOCK)]
        hospital_a.writer.cut(*(hospital_a.writer.add_note(patient, visit_note()) for patient in chosen))
    return len(hospital_a.writer.blocks)


@dataclass(frozen=True)
class Taken:
    """``cpu_seconds`` are those of the processes that did the work, Postgres among them, with those it has ended."""

    seconds: float
    cpu_seconds: float
    rows: int

    def over(self, other: Taken) -> tuple[float, float]:
        """How many times as long, and as much CPU, a row took."""
        share = other.rows / self.rows
        return self.seconds / other.seconds * share, self.cpu_seconds / other.cpu_seconds * share


class Meter:
    """Of Postgres and the ``workers`` given, else of this process."""

    def __init__(self, server: PostgresServer, workers: Sequence[int] = ()) -> None:
        assert server.process is not None
        self._postmaster = psutil.Process(server.process.pid)
        self._workers = [psutil.Process(each) for each in workers or [os.getpid()]]
        self._began = self._now()

    def taken(self, rows: int = 0) -> Taken:
        seconds, cpu_seconds = self._now()
        return Taken(seconds - self._began[0], cpu_seconds - self._began[1], rows)

    def _now(self) -> tuple[float, float]:
        times = self._postmaster.cpu_times()
        cpu = times.children_user + times.children_system
        for each in (self._postmaster, *self._postmaster.children(), *self._workers):
            with suppress(psutil.NoSuchProcess):
                own = each.cpu_times()
                cpu += own.user + own.system
        return time.perf_counter(), cpu


async def kafka_to_postgres(
    server: PostgresServer, template: str, source: Hospital, keyset: Path, bootstrap: tuple[str, ...], projectors: int
) -> Taken:
    """By so many processes of the real projector that have projected a few notes before, from the moment when Kafka has
    everything else and they have none of it.
    """
    prefix = f"b{time.monotonic_ns()}"
    topics = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix).topics
    await ensure_topics(bootstrap, topics)
    reader = BlockReader(CHANNEL, NAMESPACE, "HospitalA")
    blocks = [reader.read(block).messages for block in source.writer.blocks]
    warm = len(blocks) * 2 // 5
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = await stack.enter_async_context(empty_database(server, template=template))
        told = {"database": url, "kafka": list(bootstrap), "topic_prefix": prefix, "session_seconds": SESSION_SECONDS}
        (folder / "settings.json").write_text(json.dumps(told))
        shutil.copy(keyset, folder / "wrapping.keyset")
        database = engine.create(url, 2)
        stack.push_async_callback(database.dispose)
        await copy_keys(source.database, database)
        await store.prepare(database)
        client = await stack.enter_async_context(producer(bootstrap))
        processes = Processes(folder)
        stack.callback(processes.end)
        for number in range(projectors):
            processes.start(f"projector-{number}")
        await asyncio.sleep(SETTLING_SECONDS)
        await send_in_order(client, topics, chain.from_iterable(blocks[:warm]))
        await _until(database, warm - 1)
        rows = await count_rows(database)
        processes.signal_all(signal.SIGSTOP)
        await send_in_order(client, topics, chain.from_iterable(blocks[warm:]))
        meter = Meter(server, processes.pids)
        processes.signal_all(signal.SIGCONT)
        await _until(database, len(blocks) - 1)
        taken = meter.taken()
        return replace(taken, rows=await count_rows(database) - rows)


async def _until(database: AsyncEngine, block: int) -> None:
    """Everything up to it is in."""
    async with database.connect() as connection:
        while (await connection.scalar(sa.select(sa.func.min(care.position.c.block)))) < block:
            await connection.rollback()
            await asyncio.sleep(LOOK_SECONDS)


async def copy_keys(source: AsyncEngine, target: AsyncEngine) -> None:
    async with source.connect() as connection:
        keys = [dict(row) for row in (await connection.execute(sa.select(hospital.emr_key))).mappings()]
    async with target.begin() as connection:
        await connection.execute(sa.insert(hospital.emr_key), keys)


async def rows_of(database: AsyncEngine) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """Every row that derives from the ledger, by table: the names of its columns, and its values for asyncpg."""
    found = {}
    async with database.connect() as connection:
        for name in (*TABLES, "emr_position"):
            table = care.emr.metadata.tables[f"care.{name}"]
            rows = [tuple(row) for row in await connection.execute(sa.select(table))]
            found[name] = ([column.name for column in table.c], rows)
    return found


async def count_rows(database: AsyncEngine) -> int:
    return sum(len(rows) for _, rows in (await rows_of(database)).values())


async def raw_upsert(server: PostgresServer, template: str, tables: dict[str, Any], notes_at_once: int) -> Taken:
    """To upsert the same rows by asyncpg's executemany, in transactions of as many notes as a batch has."""
    async with empty_database(server, template=template) as url:
        connection = await asyncpg.connect(url)
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        batches = -(-len(tables["note"][1]) // notes_at_once)
        meter = Meter(server)
        for batch in range(batches):
            async with connection.transaction():
                for name, (columns, rows) in tables.items():
                    size = -(-len(rows) // batches)
                    some = rows[batch * size : (batch + 1) * size]
                    if some:
                        await connection.executemany(_statement(name, columns), some)
        taken = meter.taken(sum(len(rows) for _, rows in tables.values()))
        await connection.close()
    return taken


def _statement(name: str, columns: Iterable[str]) -> str:
    keys = [column.name for column in care.emr.metadata.tables[f"care.{name}"].primary_key]
    names = list(columns)
    values = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    replaced = ", ".join(f'"{column}" = excluded."{column}"' for column in names if column not in keys)
    quoted = ", ".join(f'"{column}"' for column in names)
    conflict = ", ".join(f'"{key}"' for key in keys)
    then = f"do update set {replaced}" if replaced else "do nothing"
    return f'insert into care."{name}" ({quoted}) values ({values}) on conflict ({conflict}) {then}'


async def rebuild(server: PostgresServer, template: str, source: Hospital) -> Taken:
    async with empty_database(server, template=template) as url:
        database = engine.create(url, 5)
        await store.prepare(database)
        await copy_keys(source.database, database)

        def projector(on: AsyncEngine, partitions: int, locks: int) -> Projector:
            return Projector(on, "HospitalA", source.wrapping, Pseudonyms(PSEUDONYM_KEY), partitions, locks)

        async def told(_: Any) -> None: ...

        job = Job("j", JobKind.REBUILD, {}, "running", None, None, None, None, None, None)  # type: ignore[arg-type]
        blocks = Blocks(source.writer)
        made = Rebuild(database, Source(blocks, BlockReader(CHANNEL, NAMESPACE, "HospitalA"), projector), PARTITIONS)
        meter = Meter(server)
        await made.do(job, told)
        taken = meter.taken()
        taken = replace(taken, rows=await count_rows(database))
        await database.dispose()
    return taken


async def read_only(server: PostgresServer, source: Hospital, rows: int) -> Taken:
    """To read the blocks' facts and do nothing with them, of which ``rows`` could be made."""
    reader = BlockReader(CHANNEL, NAMESPACE, "HospitalA")
    meter = Meter(server)
    blocks = Blocks(source.writer)
    async with aclosing(blocks.up_to(await blocks.last())) as stream:  # type: ignore[type-var]
        async for block in stream:
            reader.read(block)
    return meter.taken(rows)


async def main(notes: int, rounds: int, server: PostgresServer, bootstrap: tuple[str, ...], folder: Path) -> None:
    keyset = folder / "wrapping.keyset"
    keyset.write_text(new_wrapping_keyset())
    async with empty_database(server) as template_url, empty_database(server) as url:
        for each in (template_url, url):
            await migrate.upgrade(each)
        template = template_url.rsplit("/", 1)[1]
        database = engine.create(url, 5)
        await store.prepare(database)
        source = Hospital(database, WrappingKey.from_file(keyset))
        blocks = await write_blocks(source, notes)
        await source.project()
        tables = await rows_of(database)
        total = sum(len(rows) for _, rows in tables.values())
        messages = len(source.records())
        notes_a_batch = max(1, round(notes / messages * BATCH_MESSAGES))
        print(f"{notes} notes in {blocks} blocks: {total} rows; {rounds} rounds, medians")
        figures = await _in_turns(
            rounds,
            {
                "raw upsert": lambda: raw_upsert(server, template, tables, notes_a_batch),
                "one projector": lambda: kafka_to_postgres(server, template, source, keyset, bootstrap, 1),
                "two projectors": lambda: kafka_to_postgres(server, template, source, keyset, bootstrap, 2),
                "rebuild": lambda: rebuild(server, template, source),
                "reading the blocks only": lambda: read_only(server, source, total),
            },
        )
        await database.dispose()
    print(f"a batch of the projector, and a transaction of the raw upsert, had {notes_a_batch} notes")
    for name, taken in figures.items():
        print(f"{name:<24} {taken.rows / taken.seconds:9.0f} rows/s", end="  ")
        print(f"{taken.cpu_seconds / taken.rows * 1e6:7.1f} µs of CPU a row, with Postgres")
    raw = figures["raw upsert"]
    for name in ("one projector", "two projectors"):
        seconds, cpu = figures[name].over(raw)
        print(f"{name} / raw upsert: {1 / seconds:.2f} x the rows a second (aim 0.7), {1 / cpu:.2f} x by CPU")
    seconds, cpu = figures["rebuild"].over(figures["reading the blocks only"])
    print(f"rebuild / reading only: {seconds:.1f} x the time, {cpu:.1f} x by CPU")


async def _in_turns(rounds: int, sides: dict[str, Callable[[], Awaitable[Taken]]]) -> dict[str, Taken]:
    """Medians."""
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(await side())
    return {
        name: Taken(median(each.seconds for each in all_), median(each.cpu_seconds for each in all_), all_[0].rows)
        for name, all_ in taken.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with postgres_server() as postgres, kafka_server() as kafka, tempfile.TemporaryDirectory() as made:
        asyncio.run(main(given.notes, given.rounds, postgres, kafka.bootstrap_servers, Path(made)))
