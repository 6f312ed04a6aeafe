"""What a hostile or broken client does to a process over sockets: the limits hold, others are served, memory stays."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from support.serving import Server, read_answer, serving

MIB = 1024 * 1024
MOST_IN_PROGRESS, MOST_CONNECTIONS = 8, 60
CHANGES = {
    "connections.HEAD_SECONDS": 0.6,
    "connections.UNREAD_SECONDS": 0.6,
    "connections.MOST_CONNECTIONS": MOST_CONNECTIONS,
    "workload.MOST_IN_PROGRESS": MOST_IN_PROGRESS,
    "workload.MOST_HELD_BYTES": 9 * MIB,
    "workload.BODY_SECONDS": 2.0,
    "workload.DISCARD_SECONDS": 0.3,
}
SETTINGS = {
    "EMR_HTTP__MAX_BODY_BYTES": str(8 * MIB),
    "EMR_RATE__TOKEN_PER_SECOND": "0.5",
    "EMR_RATE__TOKEN_BURST": "100",
    "EMR_RATE__HOSPITAL_PER_SECOND": "200",
    "EMR_RATE__HOSPITAL_BURST": "400",
}
HEAD = "POST /v1/slow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
NO_TIME = b'{"seconds":0}'


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with serving(tmp_path_factory.mktemp("attacked"), settings=SETTINGS, changes=CHANGES) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A caller of the test's own, with its own allowance."""
    return str(request.node.name).encode("ascii", "replace").hex()[:40]


@pytest.fixture(autouse=True)
async def _serves_others_all_the_same(server: Server, name: str) -> AsyncIterator[None]:
    yield
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:

        async def is_served() -> bool:
            with suppress(httpx.HTTPError):
                answer = await client.post("/v1/slow", json={"seconds": 0}, headers=bearer(f"other-{name}"))
                return answer.status_code == 200
            return False

        await until(is_served)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not (await result if asyncio.iscoroutine(result := condition()) else result):
            await asyncio.sleep(0.05)


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def head(name: str, *lines: str) -> bytes:
    return "\r\n".join([HEAD + f"Authorization: Bearer {name}", *lines, "", ""]).encode()


def whole(name: str) -> bytes:
    return head(name, f"Content-Length: {len(NO_TIME)}") + NO_TIME


@asynccontextmanager
async def sent(server: Server, content: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await server.connect()
    try:
        writer.write(content)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def code_of(reader: asyncio.StreamReader) -> str:
    """The code of the problem that comes, the connection then being closed."""
    answer = await read_answer(reader)
    assert "application/problem+json" in answer.head
    assert "connection: close" in answer.head.lower()
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    code: str = json.loads(answer.body)["code"]
    return code


SLOW_HEADS = {
    "nothing": b"",
    "a part of the first line": b"POST /v1/sl",
    "a head without an end": HEAD.encode(),
}


@pytest.mark.parametrize("what", SLOW_HEADS)
async def test_who_sends_no_whole_head_is_let_go(server: Server, what: str) -> None:
    async with sent(server, SLOW_HEADS[what]) as (reader, _):
        assert await code_of(reader) == "REQUEST_TIMEOUT"


async def test_who_sends_a_head_a_byte_at_a_time_is_let_go(server: Server) -> None:
    async with sent(server, b"G") as (reader, writer):

        async def dribble() -> None:
            with suppress(OSError):
                while True:
                    writer.write(b"E")
                    await asyncio.sleep(0.1)

        dribbling = asyncio.create_task(dribble())
        assert await code_of(reader) == "REQUEST_TIMEOUT"
        dribbling.cancel()
        await asyncio.wait([dribbling])


async def test_the_head_of_a_later_request_has_no_more_time(server: Server, name: str) -> None:
    async with sent(server, whole(name)) as (reader, writer):
        assert (await read_answer(reader)).status == 200
        writer.write(HEAD.encode())
        assert await code_of(reader) == "REQUEST_TIMEOUT"


async def test_a_connection_between_requests_may_wait_longer(server: Server, name: str) -> None:
    async with sent(server, whole(name)) as (reader, writer):
        assert (await read_answer(reader)).status == 200
        await asyncio.sleep(1.2)
        writer.write(whole(name))
        assert (await read_answer(reader)).status == 200


@pytest.mark.parametrize("announced", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_who_sends_no_whole_body_is_let_go(server: Server, name: str, announced: str) -> None:
    async with sent(server, head(name, announced)) as (reader, _):
        assert await code_of(reader) == "REQUEST_TIMEOUT"


async def test_slow_bodies_without_a_token_take_nobodys_place(server: Server, name: str) -> None:
    slow = [server.connect() for _ in range(3 * MOST_IN_PROGRESS)]
    connections = await asyncio.gather(*slow)
    for _, writer in connections:
        writer.write(HEAD.encode() + b"Content-Length: 100\r\n\r\n{")
    async with sent(server, whole(name)) as (reader, _):
        assert (await read_answer(reader)).status == 200
    assert {await code_of(reader) for reader, _ in connections} == {"TOKEN_INVALID"}
    for _, writer in connections:
        writer.close()


async def test_a_body_that_goes_on_after_its_answer_is_cut_off(server: Server) -> None:
    async with sent(server, HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n") as (reader, writer):

        async def send_on() -> None:
            with suppress(OSError):
                while True:
                    writer.write(b"1\r\nx\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        sending = asyncio.create_task(send_on())
        assert (await read_answer(reader)).status == 401
        async with asyncio.timeout(20):
            await sending
        assert not sending.cancelled()


async def test_who_does_not_read_is_cut_off_and_costs_one_answer(server: Server, name: str) -> None:
    before, sockets = server.resident_bytes, server.sockets
    request = f"GET /v1/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {name}\r\n\r\n".encode()
    connections = await asyncio.gather(*(server.connect(limit=1024) for _ in range(5)))
    for reader, writer in connections:
        writer.write(request * 20)
        await reader.readexactly(1)
    assert server.resident_bytes - before < 100 * MIB
    async with asyncio.timeout(60):
        while server.sockets > sockets:
            await asyncio.sleep(0.05)
    for reader, writer in connections:
        received = 0
        with suppress(OSError):
            async with asyncio.timeout(20):
                while part := await reader.read(MIB):
                    received += len(part)
        assert received < 2 * 8_000_000
        writer.close()


async def test_too_many_connections_are_told_so_at_once(server: Server) -> None:
    held = await asyncio.gather(*(server.connect() for _ in range(2 * MOST_CONNECTIONS)))
    codes = [await code_of(reader) for reader, _ in held]
    assert set(codes) == {"OVERLOADED", "REQUEST_TIMEOUT"}
    for _, writer in held:
        writer.close()


async def test_overload_is_answered_at_once_and_accepted_work_is_finished(server: Server, name: str) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits, headers=bearer(name)) as client:
        answers = await asyncio.gather(*(client.post("/v1/slow", json={"seconds": 1.5}) for _ in range(40)))
    accepted = [one for one in answers if one.status_code == 200]
    refused = [one for one in answers if one.status_code == 503]
    assert len(accepted) == MOST_IN_PROGRESS
    assert {one.json() for one in accepted} == {"finished"}
    assert len(refused) == 40 - MOST_IN_PROGRESS
    assert all(one.json()["code"] == "OVERLOADED" and int(one.headers["retry-after"]) > 0 for one in refused)


async def test_those_who_follow_events_take_no_place_of_work(server: Server, name: str) -> None:
    request = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {name}\r\n\r\n".encode()
    following = await asyncio.gather(*(server.connect() for _ in range(2 * MOST_IN_PROGRESS)))
    for reader, writer in following:
        writer.write(request)
        assert b"200 OK" in await reader.readuntil(b"nothing new")
    async with sent(server, whole(name)) as (reader, _):
        assert (await read_answer(reader)).status == 200
    for _, writer in following:
        writer.close()


async def test_many_large_bodies_at_once_find_no_room_and_memory_stays(server: Server, name: str) -> None:
    before = server.resident_bytes
    part = b"x" * (4 * MIB)

    async def send() -> str:
        async with sent(server, head(name, f"Content-Length: {4 * MIB + 1}")) as (reader, writer):
            try:
                writer.write(part)
                await writer.drain()
                return await code_of(reader)
            except ConnectionError:  # closed while the body was still coming: the answer may be lost with it
                return "OVERLOADED"

    codes = await asyncio.gather(*(send() for _ in range(MOST_IN_PROGRESS)))
    assert codes.count("OVERLOADED") >= MOST_IN_PROGRESS - 2
    assert server.resident_bytes - before < 60 * MIB


def _gzip_bomb() -> bytes:
    return gzip.compress(b" " * (64 * MIB), 9)


HOSTILE_BODIES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "a bomb of gzip": (_gzip_bomb, "Content-Encoding: gzip", "UNSUPPORTED_MEDIA_TYPE"),
    "gzip named second": (_gzip_bomb, "Content-Encoding: identity\r\nContent-Encoding: gzip", "UNSUPPORTED_MEDIA_TYPE"),
    "lists in lists": (lambda: b"[" * MIB, "X: y", "MALFORMED_REQUEST"),
    "objects in objects": (lambda: b'{"a":' * 200_000, "X: y", "MALFORMED_REQUEST"),
    "closed lists in lists": (lambda: b"[" * 100_000 + b"]" * 100_000, "X: y", "MALFORMED_REQUEST"),
    "a number of a million digits": (lambda: b'{"seconds":' + b"9" * MIB + b"}", "X: y", "MALFORMED_REQUEST"),
    "a million members": (
        lambda: b"{" + b",".join(b'"%d":"x"' % n for n in range(400_000)) + b"}",
        "X: y",
        "MALFORMED_REQUEST",
    ),
    "more than is allowed": (lambda: b" " * (9 * MIB), "X: y", "CONTENT_TOO_LARGE"),
}


@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("what", HOSTILE_BODIES)
async def test_a_hostile_body_is_refused(server: Server, name: str, what: str, is_chunked: bool) -> None:
    make, header, code = HOSTILE_BODIES[what]
    body = make()
    announced = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    before = server.resident_bytes
    async with sent(server, head(name, announced, header)) as (reader, writer):
        with suppress(OSError):
            writer.write(content)
            await writer.drain()
        answer = await read_answer(reader)
    assert json.loads(answer.body)["code"] == code
    assert len(answer.body) < 8192
    assert server.resident_bytes - before < 200 * MIB


NO_HTTP = {
    "no HTTP at all": b"canary-7c1d\r\n\r\n",
    "a head that is too large": HEAD.encode() + b"X: " + b"canary-7c1d" * 10_000,
    "two lengths": HEAD.encode() + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a negative length": HEAD.encode() + b"Content-Length: -1\r\n\r\n",
    "another transfer encoding": HEAD.encode() + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n folded: canary-7c1d\r\n\r\n",
    "no host": b"GET /v1/large HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
}


@pytest.mark.parametrize("what", NO_HTTP)
async def test_what_is_no_http_is_refused_and_not_logged(server: Server, what: str) -> None:
    async with sent(server, NO_HTTP[what]) as (reader, _):
        assert await code_of(reader) == "MALFORMED_REQUEST"
    assert "canary-7c1d" not in server.log


async def test_a_body_that_breaks_off_in_nonsense_ends_its_request(server: Server, name: str) -> None:
    async with sent(server, head(name, "Transfer-Encoding: chunked") + b"5\r\n{    \r\nnot a length\r\n") as (
        reader,
        _,
    ):
        assert await code_of(reader) == "MALFORMED_REQUEST"


async def test_one_caller_has_an_allowance_whatever_the_token(server: Server, name: str) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=30, headers=bearer(name)) as client:
        began, taken = time.monotonic(), 0
        while (answer := await client.post("/v1/slow", json={"seconds": 0})).status_code == 200:
            taken += 1
        most = 100 + 0.5 * (time.monotonic() - began)
    assert 100 <= taken <= most
    assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_REQUESTS")
    assert 1 <= int(answer.headers["retry-after"]) <= 3


async def test_the_end_does_not_wait_for_those_who_do_nothing(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path, changes={"connections.UNREAD_SECONDS": 0.5}) as server:
        idle = [await server.connect() for _ in range(5)]
        for _, writer in idle:
            writer.write(f"GET /v1/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {name}\r\n\r\n".encode())
        silent = [await server.connect() for _ in range(5)]
        silent[0][1].write(HEAD.encode())
        async with sent(server, head(name, "Content-Length: 15") + b'{"seconds":1.0}') as (reader, _):
            await server.begun()
            server.process.send_signal(signal.SIGTERM)
            assert (await read_answer(reader)).body == b'"finished"'
        assert await server.ended() == 0
        assert server.closed.read_text() == "closed"
        for _, writer in [*idle, *silent]:
            writer.close()
