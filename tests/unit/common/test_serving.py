"""A process that serves, over real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.serving import Server, serving

TOKEN = {"authorization": "Bearer somebody"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


async def test_a_request_under_way_is_finished_before_the_end(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=TOKEN) as client:
        under_way = asyncio.create_task(client.post("/v1/slow", json={"seconds": 1.0}))
        await server.begun()
        server.process.send_signal(signal.SIGTERM)
        assert (await under_way).json() == "finished"
    assert await server.ended() == 0
    assert server.closed.read_text() == "closed"


async def test_a_stream_without_end_comes_to_one_when_the_process_is_to_end(server: Server) -> None:
    client = httpx.AsyncClient(base_url=server.url, headers=TOKEN)
    async with client, client.stream("GET", "/v1/events") as one:
        chunks = one.aiter_raw()
        await anext(chunks)
        server.process.send_signal(signal.SIGTERM)
        async for _ in chunks:  # a stream that was cut off raises RemoteProtocolError
            pass
    assert await server.ended() == 0


async def test_who_sends_too_much_gets_to_see_the_answer(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=TOKEN) as client:
        answer = await client.post("/v1/slow", json={"x" * 6_000_000: 1.0})
        assert (answer.status_code, answer.json()["code"]) == (413, "CONTENT_TOO_LARGE")
        assert answer.headers["connection"] == "close"
        assert (await client.get("/healthz")).status_code == 200


async def test_who_leaves_in_the_middle_of_a_body_is_no_failure(server: Server) -> None:
    _, writer = await server.connect()
    head = "POST /v1/clinical HTTP/1.1\r\nhost: here\r\nauthorization: Bearer somebody\r\n"
    writer.write(f'{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"half": '.encode())
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(20):
        while '"event": "request"' not in server.log:
            await asyncio.sleep(0.05)
    assert '"status": "aborted"' in server.log
    assert "request_failed" not in server.log


async def test_a_port_that_is_taken_is_a_failed_start(server: Server) -> None:
    command = [sys.executable, str(server.program), str(server.closed)]
    environment = {**os.environ, "EMR_ORG_MSP_ID": "HospitalA", "EMR_HTTP__PORT": str(server.port)}
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=60)
    assert done.returncode != 0
