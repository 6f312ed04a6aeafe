"""Rounds of kill -9 and SIGSTOP of relays, projector, Kafka and Postgres while blocks of every kind come.

The least system that has all that may lose or double a row: processes of the real relay and projector, Kafka, Postgres,
and blocks that are written here. So a round takes seconds, and a load is possible that no API would let through.
Between strikes what Kafka has already is delivered once more, and all the while rows are walked through and compared.
Rows that are lost, doubled or wrong stay so: all tables are compared with the reference replay every few rounds, and
after the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from aiokafka.errors import KafkaError
from crash.pipeline_process import BlockFile, log_briefly
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_common.settings import KafkaSettings
from emr_indexer.kafka import ensure_topics, producer
from emr_indexer.postgres import persistently
from emr_indexer.relay.batches import send_in_order
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.events import BlockMark, LedgerEvent
from emr_model.ledger.values import Access, Event, Life
from emr_readmodel import engine, migrate
from hlf.blocks import BlockTransaction
from sqlalchemy.ext.asyncio import AsyncEngine
from support.kafka import KafkaServer, kafka_server
from support.ledger_writer import CHANNEL, NAMESPACE, Patient, visit_note
from support.postgres import PostgresServer, empty_database, postgres_server
from support.read_model import PSEUDONYM_KEY, Hospital
from support.read_model import query as rows_of
from support.rebuilding import verify
from support.reference_replay import Reference, actual, content_keys, expected

RELAYS = ("relay-1", "relay-2")
PROCESSES = (*RELAYS, "projector", "walker")
PATIENTS = 24
LONGEST_LOAD_SECONDS = 1.0
CATCH_UP_SECONDS = 180.0
ROUNDS_A_COMPARISON = 5


@dataclass
class Summary:
    rounds: int = 0
    blocks: int = 0
    transactions: int = 0
    repeated: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)
    comparisons: int = 0
    walked: int = 0
    verified: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds (killed: {dict(self.killed)}, stopped: {dict(self.stopped)}): {self.blocks} blocks, "
            f"{self.transactions} transactions, {self.repeated} blocks delivered again; {self.comparisons} comparisons "
            f"of all tables with the reference replay, 0 rows lost, 0 doubled; {self.walked} of 16 parts walked "
            f"through meanwhile, {self.verified} rows verified at the end, 0 differ"
        )


class Story:
    """Transactions of every kind about a few EMRs, in the order in which a contract would let them through."""

    def __init__(self, hospital: Hospital, chance: random.Random) -> None:
        self._writer = hospital.writer
        self._chance = chance
        self._living: list[Patient] = []
        self._sharings: dict[str, tuple[Access, int]] = {}
        self._hospital = hospital

    async def begin(self) -> list[BlockTransaction]:
        creations = []
        for _ in range(PATIENTS):
            patient, creation = await self._hospital.admit()
            self._living.append(patient)
            creations.append(creation)
        return [self._writer.register("HospitalA"), self._writer.register("HospitalB"), *creations]

    def step(self) -> list[BlockTransaction]:
        """Of one EMR, the next."""
        patient = self._chance.choice(self._living)
        roll = self._chance.random()
        if patient.value.version == 0 or roll < 0.8:
            year = self._chance.randint(2019, 2026)
            is_visit = self._chance.random() < 0.7
            return [self._writer.add_note(patient, visit_note(f"{year}-03-04T10:00:00Z"), is_visit=is_visit)]
        if roll < 0.99 or len(self._living) < PATIENTS // 2:
            return self._share_or_end(patient)
        self._living.remove(patient)
        return [self._writer.set_life(patient, Life.ERASED, Event.EMR_ERASED)]

    def _share_or_end(self, patient: Patient) -> list[BlockTransaction]:
        writer, other = self._writer, "HospitalB"
        access, number = self._sharings.pop(patient.emr_id, (None, 0))
        if access is not None:
            self._sharings[patient.emr_id] = (None, number)  # type: ignore[assignment]
            read = writer.disclose(patient, other, number, patient.value.version)
            return [read, writer.end(patient, other, number)]
        access, request = writer.request(patient, other, number + 1)
        access, approvals = writer.approve(patient, other, access, patient.value.version)
        access, sharing = writer.share(patient, other, access, patient.value.version, b"snapshot")
        self._sharings[patient.emr_id] = (access, number + 1)
        return [request, *approvals, sharing]


class Processes:
    """Of relays and projector. One that ends by itself is started again, as a supervisor does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        script = Path(__file__).with_name("pipeline_process.py")
        command = [sys.executable, str(script), name.split("-", maxsplit=1)[0], str(self._folder)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running.values()]

    def signal_all(self, number: signal.Signals) -> None:
        for name in self._running:
            self.signal(name, number)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    def stop(self, name: str) -> None:
        """For good, by kill -9."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def kill(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def keep_up(self) -> None:
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self.start(name)

    def tell(self) -> None:
        for name in self._running:
            print(f"-- {name}", (self._folder / f"{name}.log").read_text()[-3000:], sep="\n", file=sys.stderr)

    def end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


class PipelineRounds:
    """Each call of `run` is one round; whatever is wrong afterwards is an AssertionError."""

    def __init__(
        self,
        hospital: Hospital,
        folder: Path,
        kafka: KafkaServer,
        postgres: PostgresServer,
        chance: random.Random,
        stop_seconds: float,
    ) -> None:
        self.summary = Summary()
        self._hospital = hospital
        self._kafka = kafka
        self._postgres = postgres
        self._chance = chance
        self._stop_seconds = stop_seconds
        self._settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix="crash")
        self._file = BlockFile(folder / "blocks")
        self._processes = Processes(folder)
        self._story = Story(hospital, chance)
        self._reference: Reference | None = None

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[PipelineRounds]:
        await ensure_topics(self._settings.bootstrap_servers, self._settings.topics)
        self._cut(await self._story.begin())
        keys = await content_keys(self._hospital.database, self._hospital.wrapping)
        self._reference = Reference("HospitalA", keys, PSEUDONYM_KEY, NAMESPACE)
        for name in PROCESSES:
            self._processes.start(name)
        try:
            yield self
            await self._compare()
            await self._verify()
        except BaseException:
            self._processes.tell()
            raise
        finally:
            self._processes.end()

    async def run(self) -> None:
        writing = asyncio.create_task(self._write())
        try:
            await self._repeat()
            await asyncio.sleep(self._chance.uniform(0, LONGEST_LOAD_SECONDS))
            await self._strike()
            await asyncio.sleep(self._chance.uniform(0, LONGEST_LOAD_SECONDS))
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
        await self._until_caught_up()
        self.summary.rounds += 1
        if self.summary.rounds % ROUNDS_A_COMPARISON == 0:
            await self._compare()

    async def _write(self) -> None:
        while True:
            self._cut([each for _ in range(self._chance.randint(0, 5)) for each in self._story.step()])
            await asyncio.sleep(self._chance.uniform(0, 0.1))

    def _cut(self, transactions: list[BlockTransaction]) -> None:
        self._file.append(self._hospital.writer.cut(*transactions) if transactions else self._hospital.writer.genesis())
        self.summary.blocks += 1
        self.summary.transactions += len(transactions)

    async def _repeat(self) -> None:
        """Some of what is in Kafka already, as a relay does that goes on too early: in order, and again."""
        if self._chance.random() < 0.5:
            return
        start = self._chance.randint(max(0, self._reached - 60), self._reached)
        again = self._file.written(start, min(start + self._chance.randint(1, 60), self._reached + 1))
        reader = BlockReader(CHANNEL, NAMESPACE, "HospitalA")
        messages: list[LedgerEvent | BlockMark] = [message for each in again for message in reader.read(each).messages]
        try:
            async with producer(self._settings.bootstrap_servers) as client:
                await send_in_order(client, self._settings.topics, messages)
            self.summary.repeated += len(again)
        except* (KafkaError, OSError):
            pass  # it is just starting

    _reached = 0

    async def _strike(self) -> None:
        if self._chance.random() < 0.06:
            await self._stop_for_a_while(self._chance.choice(PROCESSES))
            return
        kills: dict[str, Callable[[], None]] = {
            "relay": lambda: self._processes.kill(self._chance.choice(RELAYS)),
            "projector": lambda: self._processes.kill("projector"),
            "walker": lambda: self._processes.kill("walker"),
            "kafka": self._kill_kafka,
            "postgres": self._kill_postgres,
        }
        victims = self._chance.sample(sorted(kills), self._chance.choice((1, 1, 2)))
        for victim in victims:
            await asyncio.to_thread(kills[victim])
            self.summary.killed[victim] += 1

    async def _stop_for_a_while(self, name: str) -> None:
        self._processes.signal(name, signal.SIGSTOP)
        await asyncio.sleep(self._stop_seconds)
        self._processes.signal(name, signal.SIGCONT)
        self.summary.stopped[name] += 1

    def _kill_kafka(self) -> None:
        self._kafka.kill()
        self._kafka.start()

    def _kill_postgres(self) -> None:
        assert self._postgres.process is not None
        os.kill(self._postgres.process.pid, signal.SIGKILL)
        self._postgres.process.wait()
        for attempt in range(100):
            try:
                self._postgres.start()
                return
            except AssertionError:  # its orphans have not all gone yet
                if attempt == 99:
                    raise
                time.sleep(0.1)

    async def _until_caught_up(self) -> None:
        last = len(self._hospital.writer.blocks) - 1
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while await persistently(self._as_of) < last:
                self._processes.keep_up()
                await asyncio.sleep(0.1)
        self._reached = last

    async def _as_of(self) -> int:
        async with self._hospital.database.connect() as connection:
            block: int = await connection.scalar(sa.text("select coalesce(min(block), -1) from care.position")) or 0
            return block

    async def _compare(self) -> None:
        assert self._reference is not None
        new = self._file.written(self._compared)
        self._reference.read(new)
        self._compared += len(new)
        found = await persistently(lambda: actual(self._hospital.database))
        assert found == expected(self._reference), "rows are not what the ledger says"
        self.summary.comparisons += 1

    _compared = 0

    async def _verify(self) -> None:
        """What the walk has found meanwhile, and what the indexer's own verification of everything finds now."""
        query = "select count(*)::int, coalesce(sum((result->>'found')::int), 0)::int from hospital.index_job"
        ((self.summary.walked, differ),) = await rows_of(self._hospital.database, query)
        assert differ == 0, "the walk found rows that are not what the ledger says"
        verified = await verify(self._hospital)
        assert verified["found"] == 0, verified["differences"]
        self.summary.verified = verified["rows"]


@asynccontextmanager
async def crashing_pipeline(
    folder: Path, seed: int, kafka: KafkaServer, postgres: PostgresServer, stop_seconds: float
) -> AsyncIterator[PipelineRounds]:
    (folder / "wrapping.keyset").write_text(new_wrapping_keyset())
    async with empty_database(postgres) as url:
        await migrate.upgrade(url)
        settings = {"database": url, "kafka": list(kafka.bootstrap_servers)}
        (folder / "settings.json").write_text(json.dumps(settings))
        async with _engine(url) as database:
            hospital = Hospital(database, WrappingKey.from_file(folder / "wrapping.keyset"))
            rounds = PipelineRounds(hospital, folder, kafka, postgres, random.Random(seed), stop_seconds)
            async with rounds.begun():
                yield rounds


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = engine.create(url, 3)
    try:
        yield made
    finally:
        await made.dispose()


@asynccontextmanager
async def crashing_indexer_alone(folder: Path, seed: int) -> AsyncIterator[PipelineRounds]:
    log_briefly()
    kafka_context, postgres_context = kafka_server(), postgres_server()
    async with AsyncExitStack() as stack:
        kafka = await asyncio.to_thread(kafka_context.__enter__)
        stack.push_async_callback(asyncio.to_thread, kafka_context.__exit__, None, None, None)
        postgres = await asyncio.to_thread(postgres_context.__enter__)
        stack.push_async_callback(asyncio.to_thread, postgres_context.__exit__, None, None, None)
        yield await stack.enter_async_context(crashing_pipeline(folder, seed, kafka, postgres, stop_seconds=30))
