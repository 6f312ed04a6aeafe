"""How many places of a process one caller may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from emr_common.tokens import Claims
from emr_common.workload import MOST_HELD_BYTES, MOST_HELD_OF_A_CALLER, MOST_OF_A_CALLER, BodyLimit, Workload
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

LOUD, QUIET = Claims("issuer", "loud"), Claims("issuer", "quiet")


class Place:
    """A process whose requests stay until they are let go."""

    def __init__(self) -> None:
        self.workload = Workload(self._app)
        self._is_over = asyncio.Event()
        self._tasks: list[asyncio.Task[list[Message]]] = []

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = b"text/event-stream" if scope["path"] == "/v1/events" else b"application/json"
        if scope["path"] == "/v1/events":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await self._is_over.wait()
        if scope["path"] != "/v1/events":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})

    def ask(self, caller: Claims, path: str = "/v1/me") -> asyncio.Task[list[Message]]:
        task = asyncio.create_task(self._answer(caller, path))
        self._tasks.append(task)
        return task

    async def _answer(self, caller: Claims, path: str) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope: dict[str, Any] = {"type": "http", "path": path, "headers": [], "state": {"claims": caller}}
        await self.workload(scope, receive, send)
        return sent

    async def let_go(self) -> None:
        self._is_over.set()
        await asyncio.gather(*self._tasks)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    await made.let_go()


async def test_nobody_takes_the_places_of_others(place: Place) -> None:
    under_way = [place.ask(LOUD) for _ in range(MOST_OF_A_CALLER)]
    start, body = await place.ask(LOUD)
    assert (start["status"], orjson.loads(body["body"])["code"]) == (429, "TOO_MANY_REQUESTS")
    assert (b"retry-after", b"1") in start["headers"]
    others = place.ask(QUIET)
    await place.let_go()
    assert {(await one)[0]["status"] for one in (*under_way, others)} == {200}
    assert (await place.ask(LOUD))[0]["status"] == 200


async def test_nobody_holds_all_the_room_for_bodies() -> None:
    part, is_over = 4 * 1024 * 1024, asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await is_over.wait()

    limit = BodyLimit(app, part, {})

    async def post(caller: Claims) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"x" * part, "more_body": False}

        async def send(_: Message) -> None: ...

        headers = [(b"content-type", b"application/json"), (b"content-length", str(part).encode())]
        await limit({"type": "http", "path": "/v1/me", "headers": headers, "state": {"claims": caller}}, receive, send)

    held = [asyncio.create_task(post(LOUD)) for _ in range(MOST_HELD_OF_A_CALLER // part)]
    await asyncio.sleep(0)
    with pytest.raises(HTTPException) as refused:
        await post(LOUD)
    assert refused.value.status_code == 429
    others = [asyncio.create_task(post(QUIET)) for _ in range((MOST_HELD_BYTES - MOST_HELD_OF_A_CALLER) // part)]
    await asyncio.sleep(0)
    is_over.set()
    await asyncio.gather(*held, *others)
    await post(LOUD)


async def test_streams_that_have_begun_are_no_work(place: Place) -> None:
    for _ in range(MOST_OF_A_CALLER):
        place.ask(LOUD, "/v1/events")
    await asyncio.sleep(0)
    under_way = place.ask(LOUD)
    await place.let_go()
    assert (await under_way)[0]["status"] == 200
