"""A Kafka of the tests' own: one KRaft node on free ports, to be stopped and started, its data gone afterwards."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emr_deploy.kafka import Kafka
from emr_network.home import Home
from emr_network.ports import Ports
from support.ports import free_port

START_SECONDS = 240


@dataclass
class KafkaServer:
    """A running broker; ``stop`` and ``start`` keep its data and port."""

    kafka: Kafka
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> tuple[str, ...]:
        return (self.kafka.bootstrap_servers,)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.kafka.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not asyncio.run(self.kafka.is_ready()):
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, "Kafka was not ready in time"
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=40)
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None


@contextmanager
def kafka_server() -> Iterator[KafkaServer]:
    """To be entered outside any event loop."""
    folder = Path(tempfile.mkdtemp(prefix="careledger-kafka-"))
    numbers = {"kafka": free_port(), "kafka-controller": free_port()}
    kafka = Kafka(Home(folder), Ports(folder / "ports.json", numbers, free=True))
    kafka.prepare()
    server = KafkaServer(kafka, folder / "log")
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
