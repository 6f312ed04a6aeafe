"""What surrounds every request: its id, its time and its size. Plain ASGI, so that bodies stream through untouched."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress

import structlog
from emr_model.ledger.codes import Code
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emr_common import telemetry
from emr_common.problems import Problem

PREFIX = "/v1"
UNROUTED = "(none)"
OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics"})
MAX_IN_PROGRESS = 256
BODY_SECONDS = 30.0
DISCARD_BYTES = 16 * 1024 * 1024
DISCARD_SECONDS = 5.0
CLOSING = {"Connection": "close"}
JSON_TYPE = re.compile(r"application/(?:[a-z0-9.-]+\+)?json", re.ASCII | re.IGNORECASE)

log = structlog.get_logger(__name__)


class Boundary:
    """Gives each request an id (``X-Request-Id``, kept if the caller sent a plain one), measures it, turns it away with
    OVERLOADED when too many are under way, and turns what nobody handled into INTERNAL_ERROR.

    Answers are not to be stored by anybody in between.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, telemetry.begin_request(Headers(scope=scope).get("x-request-id")))
        self._in_progress += 1
        telemetry.REQUESTS_IN_PROGRESS.set(self._in_progress)
        try:
            await self._answer(scope, receive, exchange)
        finally:
            self._in_progress -= 1
            telemetry.REQUESTS_IN_PROGRESS.set(self._in_progress)
            exchange.finish()

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        if self._in_progress > MAX_IN_PROGRESS and scope["path"] not in OPERATIONS:
            await Problem(Code.OVERLOADED).response()(scope, receive, exchange.send)
            return
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            log.error("request_failed", exc_info=error)
            if exchange.status is not None:
                raise
            await Problem(Code.INTERNAL_ERROR).response()(scope, receive, exchange.send)


class _Exchange:
    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._started = time.perf_counter()
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    def finish(self) -> None:
        route = template_of(self._scope)
        seconds = time.perf_counter() - self._started
        method, status = _known_method(self._scope["method"]), str(self.status or "aborted")
        telemetry.REQUEST_SECONDS.labels(method, route, status).observe(seconds)
        if route not in OPERATIONS:
            log.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1))


def template_of(scope: Scope) -> str:
    """The route's template with its prefix, which FastAPI keeps apart. Nothing of what stands in a path's place."""
    template: str | None = getattr(scope.get("route"), "path", None)
    if template is None:
        return UNROUTED
    return f"{PREFIX}{template}" if scope["path"].startswith(f"{PREFIX}/") else template


def _known_method(method: str) -> str:
    """A label has few values: what a stranger calls a method is not one of them."""
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"


class BodyLimit:
    """Refuses a body over its route's limit, announced or chunked, with CONTENT_TOO_LARGE; and with
    UNSUPPORTED_MEDIA_TYPE one that is not JSON, or is encoded (its size once decoded could not be known)."""

    def __init__(self, app: ASGIApp, default: int, by_route: Mapping[str, int]) -> None:
        self._app = app
        self._default = default
        self._by_route = [(compile_path(template)[0], limit) for template, limit in by_route.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, limit = Headers(scope=scope), self._limit(scope["path"])
        if not _is_readable(headers):
            await Problem(Code.UNSUPPORTED_MEDIA_TYPE).response()(scope, receive, send)
        elif _announced(headers) > limit:
            await _discard(receive)
            await Problem(Code.CONTENT_TOO_LARGE, headers=CLOSING).response()(scope, receive, send)
        else:
            await self._app(scope, _limited(receive, limit), send)

    def _limit(self, path: str) -> int:
        return next((limit for pattern, limit in self._by_route if pattern.fullmatch(path)), self._default)


def _is_readable(headers: Headers) -> bool:
    has_body = _announced(headers) > 0 or "transfer-encoding" in headers
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    is_plain = headers.get("content-encoding", "identity") == "identity"
    return not has_body or (is_plain and JSON_TYPE.fullmatch(media_type) is not None)


def _announced(headers: Headers) -> int:
    """Bytes that Content-Length speaks of. The server has refused one that is no number."""
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _limited(receive: Receive, limit: int) -> Receive:
    """Receives a body of at most ``limit`` bytes within BODY_SECONDS; what comes after the body is not looked at."""
    received, is_complete = 0, False
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive_limited() -> Message:
        nonlocal received, is_complete
        message = await (receive() if is_complete else _received_by(receive, deadline))
        received += len(message.get("body", b""))
        is_complete = not message.get("more_body", False)
        if received > limit:
            await _discard(receive)
            raise HTTPException(413, headers=CLOSING)
        return message

    return receive_limited


async def _received_by(receive: Receive, deadline: float) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            return await receive()
    except TimeoutError:
        raise HTTPException(408, headers=CLOSING) from None


async def _discard(receive: Receive) -> None:
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
