"""A process that serves, over real sockets."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

PROGRAM = """
import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
import sys
from fastapi import APIRouter
from emr_common.http import create_app, run
from emr_common.readiness import Readiness
from emr_common.settings import Settings, load

@dataclass
class Services:
    readiness: Readiness

@asynccontextmanager
async def bootstrap():
    yield Services(Readiness({}))
    Path(sys.argv[1]).write_text("closed")

router = APIRouter()

@router.post("/slow")
async def slow(body: dict[str, float]) -> str:
    await asyncio.sleep(body["seconds"])
    return "finished"

settings = load(Settings)
run(create_app(title="t", description="t", settings=settings, bootstrap=bootstrap, routers=[router]), settings)
"""


class Server:
    def __init__(self, folder: Path) -> None:
        self.closed = folder / "closed"
        self._log = folder / "log"
        (folder / "serve.py").write_text(PROGRAM)
        environment = {**os.environ, "EMR_ORG_MSP_ID": "HospitalA", "EMR_HTTP__PORT": "0"}
        with self._log.open("wb") as log:
            command = [sys.executable, str(folder / "serve.py"), str(self.closed)]
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    async def url(self) -> str:
        async with asyncio.timeout(20):
            while True:
                if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", self._log.read_text()):
                    return found[1]
                assert self.process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.05)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 20)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    running = Server(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        await running.ended()


async def test_a_request_under_way_is_finished_before_the_end(server: Server) -> None:
    async with httpx.AsyncClient(base_url=await server.url()) as client:
        under_way = asyncio.create_task(client.post("/v1/slow", json={"seconds": 1.0}))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert (await under_way).json() == "finished"
    assert await server.ended() == 0
    assert server.closed.read_text() == "closed"


async def test_who_sends_too_much_gets_to_see_the_answer(server: Server) -> None:
    async with httpx.AsyncClient(base_url=await server.url()) as client:
        answer = await client.post("/v1/slow", json={"x" * 6_000_000: 1.0})
        assert (answer.status_code, answer.json()["code"]) == (413, "CONTENT_TOO_LARGE")
        assert answer.headers["connection"] == "close"
        assert (await client.get("/healthz")).status_code == 200


async def test_what_is_no_http_is_refused_and_not_logged(server: Server) -> None:
    url = httpx.URL(await server.url())
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"canary-7c1d\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    assert "canary-7c1d" not in server._log.read_text()


async def test_a_port_that_is_taken_is_a_failed_start(server: Server, tmp_path: Path) -> None:
    port = httpx.URL(await server.url()).port
    command = [sys.executable, str(tmp_path / "serve.py"), str(tmp_path / "closed")]
    environment = {**os.environ, "EMR_ORG_MSP_ID": "HospitalA", "EMR_HTTP__PORT": str(port)}
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=20)
    assert done.returncode != 0
