"""A process that serves a small application as every service does, over real sockets."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAM = """
import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
import sys
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from emr_common import connections, workload
from emr_common.bodies import clinical_json
from emr_common.boundary import PREFIX
from emr_common.http import create_app, run
from emr_common.readiness import Readiness
from emr_common.routing import JsonRoute
from emr_common.settings import Settings, load
from emr_common.tokens import Claims, refused

class NamesAreTokens:
    async def claims(self, authorization):
        scheme, _, name = (authorization or "").partition(" ")
        if not name:
            raise refused()
        return Claims("test", name)

@dataclass
class Services:
    readiness: Readiness
    authenticator: NamesAreTokens

    def leave(self):
        leaving.set()

@asynccontextmanager
async def bootstrap():
    yield Services(Readiness({}), NamesAreTokens())
    Path(sys.argv[1]).write_text("closed")

leaving = asyncio.Event()
router = APIRouter(prefix=PREFIX, route_class=JsonRoute)

@router.post("/slow")
async def slow(body: dict[str, float]) -> str:
    Path(sys.argv[1]).with_name("begun").touch()
    await asyncio.sleep(body["seconds"])
    return "finished"

@router.post("/clinical")
async def clinical(request: Request) -> int:
    return len(await clinical_json(request))

@router.get("/large")
async def large() -> PlainTextResponse:
    return PlainTextResponse("x" * 8_000_000)

@router.get("/events")
async def events() -> StreamingResponse:
    async def for_ever():
        while not leaving.is_set():
            yield b": nothing new\\n\\n"
            await asyncio.sleep(0.1)
    return StreamingResponse(for_ever(), media_type="text/event-stream")

for change in sys.argv[2:]:
    name, _, value = change.partition("=")
    module, _, constant = name.partition(".")
    setattr({"connections": connections, "workload": workload}[module], constant, float(value))
settings = load(Settings)
run(create_app(title="t", description="t", settings=settings, bootstrap=bootstrap, routers=[router]), settings)
"""


@dataclass
class Answer:
    status: int
    head: str
    body: bytes


class Server:
    def __init__(self, folder: Path, settings: Mapping[str, str], changes: Mapping[str, float]) -> None:
        self.closed = folder / "closed"
        self._begun = folder / "begun"
        self.program = folder / "serve.py"
        self._log = folder / "log"
        self.program.write_text(PROGRAM)
        environment = {**os.environ, "EMR_ORG_MSP_ID": "HospitalA", "EMR_HTTP__PORT": "0", **settings}
        changed = [f"{name}={value}" for name, value in changes.items()]
        with self._log.open("wb") as log:
            command = [sys.executable, str(self.program), str(self.closed), *changed]
            self.process = subprocess.Popen(command, stderr=log, env=environment)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def sockets(self) -> int:
        """How many it has open."""
        return len(psutil.Process(self.process.pid).net_connections())

    async def started(self) -> None:
        async with asyncio.timeout(60):
            while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log)):
                assert self.process.poll() is None, self.log
                await asyncio.sleep(0.05)
        self.port = int(found[1])

    async def connect(self, limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=limit)

    async def begun(self) -> None:
        """When a request for `/slow` is under way."""
        async with asyncio.timeout(60):
            while not self._begun.exists():
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 40)


@asynccontextmanager
async def serving(
    folder: Path, *, settings: Mapping[str, str] | None = None, changes: Mapping[str, float] | None = None
) -> AsyncIterator[Server]:
    """``changes`` are other values for constants, such as ``connections.HEAD_SECONDS``."""
    server = Server(folder, settings or {}, changes or {})
    try:
        await server.started()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            await server.ended()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer of a connection. Fails when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None, head
    return Answer(int(head.split()[1]), head, await reader.readexactly(int(length[1])))
