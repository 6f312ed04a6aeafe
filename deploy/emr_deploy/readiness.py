"""Waiting until a process can do its work, and saying so in one line."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
from emr_network.home import Home
from emr_network.ports import HOST, Ports, accepts

from emr_deploy.kafka import Kafka
from emr_deploy.postgres import Postgres
from emr_deploy.process import Process
from emr_deploy.supervisor import Supervisor

Check = Callable[[], Awaitable[bool]]
Say = Callable[[str], None]

READY_SECONDS = 240.0
POLL_SECONDS = 0.1
TRIES_PER_LOOK = 20
RESTARTING_SECONDS = 20.0


class NotReady(Exception):
    """Processes did not become ready in time; the text names them and their log files."""


class Readiness:
    """Knows for each kind of process how to see that it works."""

    def __init__(self, home: Home, ports: Ports) -> None:
        self._home = home
        self._supervisor = Supervisor(home)
        self._kafka = Kafka(home, ports)
        self._postgres = Postgres(home, ports)
        self._http = httpx.AsyncClient(timeout=5.0, trust_env=False)

    async def __aenter__(self) -> Readiness:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def check(self, process: Process) -> Check:
        match process.service:
            case "postgres":
                return self._postgres.is_ready
            case "kafka":
                return self._kafka.is_ready
            case "ca":
                return lambda: _speaks_tls(process.port)
            case "chaincode":
                return lambda: accepts(process.port)
            case "peer" | "orderer":
                return lambda: self._answers(f"{process.url}/healthz")
            case "devnet":
                return lambda: self._answers(f"{process.url}/status")
            case "issuer":
                return lambda: self._answers(f"{process.url}/healthz")
            case _:
                return lambda: self._answers(f"{process.url}/readyz")

    async def wait(self, processes: Sequence[Process], say: Say) -> None:
        """Says a line for each process as it becomes ready, in that order. Raises NotReady."""
        waits = await asyncio.gather(*(self._wait(process, say) for process in processes))
        late = [process.name for process, is_ready in zip(processes, waits, strict=True) if not is_ready]
        if late:
            logs = ", ".join(str(self._home.logs / f"{name}.log") for name in late)
            raise NotReady(f"not ready: {', '.join(late)}; see {logs}")

    async def _wait(self, process: Process, say: Say) -> bool:
        check, started, tries = self.check(process), time.monotonic(), 0
        while time.monotonic() < started + READY_SECONDS:
            if await check():
                say(f"ready  {process.name:16} {HOST}:{process.port}  {time.monotonic() - started:.1f} s")
                return True
            tries += 1
            if tries % TRIES_PER_LOOK == 0 and self._keeps_ending(process, time.monotonic() - started):
                return False
            await asyncio.sleep(POLL_SECONDS)
        return False

    def _keeps_ending(self, process: Process, seconds: float) -> bool:
        """Whether waiting longer is in vain: the supervisor gave up, or starts it again and again."""
        state = self._supervisor.process(process.name).state
        return state == "FATAL" or (state == "BACKOFF" and seconds > RESTARTING_SECONDS)

    async def _answers(self, url: str) -> bool:
        try:
            return (await self._http.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


async def _speaks_tls(port: int) -> bool:
    """Whether a server there shows a certificate; whose it is, the first real call checks."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(HOST, port, ssl=context)
    except (OSError, ssl.SSLError):
        return False
    writer.close()
    return True
