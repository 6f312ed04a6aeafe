"""How much of a process requests may take: how many at once, how large a body, how many bytes of bodies together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from emr_model.ledger.codes import Code
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emr_common.boundary import OPERATIONS
from emr_common.problems import Problem
from emr_common.shares import Shares
from emr_common.tokens import Claims

MOST_IN_PROGRESS = 256
MOST_OF_A_CALLER = 64
MOST_HELD_BYTES = 32 * 1024 * 1024
MOST_HELD_OF_A_CALLER = 16 * 1024 * 1024
BODY_SECONDS = 30.0
DISCARD_BYTES = 16 * 1024 * 1024
DISCARD_SECONDS = 5.0
CLOSING = {"Connection": "close"}
SOON = {"Retry-After": "1"}
JSON_TYPE = re.compile(r"application/(?:fhir\+)?json", re.ASCII | re.IGNORECASE)


class Workload:
    """Turns a request away with OVERLOADED when too many are under way, and with TOO_MANY_REQUESTS when too many are
    this caller's: nobody can take all places. Health and metrics still answer. A stream of events is no work any more
    once it has begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places: Shares[Claims] = Shares()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        if self._places.in_use >= MOST_IN_PROGRESS:
            await turn_away(Problem(Code.OVERLOADED), scope, receive, send)
            return
        caller = _caller(scope)
        if self._places.of(caller) >= MOST_OF_A_CALLER:
            await turn_away(Problem(Code.TOO_MANY_REQUESTS, headers=SOON), scope, receive, send)
            return
        self._places.take(caller)
        is_counted = True

        async def send_and_watch(message: Message) -> None:
            nonlocal is_counted
            if is_counted and message["type"] == "http.response.start" and _is_stream(message):
                self._places.give_back(caller)
                is_counted = False
            await send(message)

        try:
            await self._app(scope, receive, send_and_watch)
        finally:
            if is_counted:
                self._places.give_back(caller)


def _caller(scope: Scope) -> Claims | None:
    """As ``admission`` has left it; None where no token is asked for."""
    caller: Claims | None = scope.get("state", {}).get("claims")
    return caller


def _is_stream(start: Message) -> bool:
    return Headers(raw=list(start["headers"])).get("content-type", "").startswith("text/event-stream")


class BodyLimit:
    """Refuses a body over its route's limit, announced or chunked, with CONTENT_TOO_LARGE; with UNSUPPORTED_MEDIA_TYPE
    one that is not JSON, or is encoded (its size once decoded could not be known); and with OVERLOADED one for which
    there is no room beside the bodies of the other requests under way, TOO_MANY_REQUESTS if these are the caller's.
    """

    def __init__(self, app: ASGIApp, default: int, by_route: Mapping[str, int]) -> None:
        self._app = app
        self._default = default
        self._by_route = [(compile_path(template)[0], limit) for template, limit in by_route.items()]
        self._bytes: Shares[Claims] = Shares()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, limit = Headers(scope=scope), self._limit(scope["path"])
        if not _is_readable(headers):
            await turn_away(Problem(Code.UNSUPPORTED_MEDIA_TYPE), scope, receive, send)
        elif _announced(headers) > limit:
            await turn_away(Problem(Code.CONTENT_TOO_LARGE), scope, receive, send)
        elif self._bytes.in_use + _announced(headers) > MOST_HELD_BYTES:
            await turn_away(Problem(Code.OVERLOADED), scope, receive, send)
        elif has_body(headers):
            await self._answer(scope, receive, send, limit)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """What was received counts as held until the request is answered: handlers keep it about that long."""
        held, caller = 0, _caller(scope)

        def hold(count: int) -> None:
            nonlocal held
            held += count
            self._hold(caller, count)

        try:
            await self._app(scope, _limited(receive, limit, hold), send)
        finally:
            self._bytes.give_back(caller, held)

    def _hold(self, caller: Claims | None, count: int) -> None:
        self._bytes.take(caller, count)
        if self._bytes.of(caller) > MOST_HELD_OF_A_CALLER:
            raise HTTPException(429, headers={**CLOSING, **SOON})
        if self._bytes.in_use > MOST_HELD_BYTES:
            raise HTTPException(503, headers=CLOSING)

    def _limit(self, path: str) -> int:
        return next((limit for pattern, limit in self._by_route if pattern.fullmatch(path)), self._default)


def _is_readable(headers: Headers) -> bool:
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    is_plain = all(value == "identity" for value in headers.getlist("content-encoding"))
    return not has_body(headers) or (is_plain and JSON_TYPE.fullmatch(media_type) is not None)


def has_body(headers: Headers) -> bool:
    return _announced(headers) > 0 or "transfer-encoding" in headers


def _announced(headers: Headers) -> int:
    """Bytes that Content-Length speaks of. The server has refused one that is no number."""
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _limited(receive: Receive, limit: int, hold: Callable[[int], None]) -> Receive:
    """Receives a body of at most ``limit`` bytes within BODY_SECONDS; what comes after the body is not looked at."""
    received, is_complete = 0, False
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive_limited() -> Message:
        nonlocal received, is_complete
        message = await (receive() if is_complete else _received_by(receive, deadline))
        received += len(message.get("body", b""))
        is_complete = not message.get("more_body", False)
        if received > limit:
            await discard(receive)
            raise HTTPException(413, headers=CLOSING)
        hold(len(message.get("body", b"")))
        return message

    return receive_limited


async def _received_by(receive: Receive, deadline: float) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            return await receive()
    except TimeoutError:
        raise HTTPException(408, headers=CLOSING) from None


async def turn_away(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without having read the body, and ends the connection if there is one."""
    if has_body(Headers(scope=scope)):
        await discard(receive)
        problem.headers.update(CLOSING)
    await problem.response()(scope, receive, send)


async def discard(receive: Receive) -> None:
    """Reads on for a while and keeps nothing: whoever is still sending when the connection closes never sees the
    answer.
    """
    left = DISCARD_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
