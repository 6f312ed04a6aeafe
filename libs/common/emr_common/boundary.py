"""What surrounds every request: its id, its time, and what nobody handled. Plain ASGI: bodies stream through."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from emr_model.ledger.codes import Code
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emr_common import telemetry, tracing
from emr_common.problems import Problem

if TYPE_CHECKING:
    from opentelemetry.trace import Span

PREFIX = "/v1"
UNROUTED = "(none)"
OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class Boundary:
    """Gives each request an id (``X-Request-Id``, kept if the caller sent a plain one), measures it, and turns what
    nobody handled into INTERNAL_ERROR.

    Answers are not to be stored by anybody in between.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = _Exchange(scope, send, telemetry.begin_request(headers.get("x-request-id")))
        self._in_progress += 1
        telemetry.REQUESTS_IN_PROGRESS.set(self._in_progress)
        try:
            with tracing.span(
                _known_method(scope["method"]), "server", parent=headers.get(tracing.TRACEPARENT)
            ) as opened:
                try:
                    await self._answer(scope, receive, exchange)
                finally:
                    if opened is not None:
                        exchange.describe(opened)
        finally:
            self._in_progress -= 1
            telemetry.REQUESTS_IN_PROGRESS.set(self._in_progress)
            exchange.finish()

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            await self._app(scope, receive, exchange.send)
        except ClientDisconnect:
            return  # nobody is there to be told
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
            given = list(message["headers"])
            added = [(b"x-request-id", self._request_id.encode()), (b"x-content-type-options", b"nosniff")]
            if not any(name == b"cache-control" for name, _ in given):
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": given + added}
        await self._send(message)

    def describe(self, span: Span) -> None:
        route, method = template_of(self._scope), _known_method(self._scope["method"])
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route})
        span.set_attribute("http.response.status_code", self.status or 0)
        span.set_attribute("careledger.request_id", self._request_id)

    def finish(self) -> None:
        route = template_of(self._scope)
        seconds = time.perf_counter() - self._started
        method, status = _known_method(self._scope["method"]), str(self.status or "aborted")
        telemetry.REQUEST_SECONDS.labels(method, route, status).observe(seconds)
        if route not in OPERATIONS:
            transaction_id = telemetry.noted_transaction()
            more = {} if transaction_id is None else {"transaction_id": transaction_id}
            log.info(
                "request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1), **more
            )


def template_of(scope: Scope) -> str:
    """The route's template, such as ``/v1/emrs/{emr}``. Nothing of what stands in a path's place."""
    template: str = getattr(scope.get("route"), "path", UNROUTED)
    return template


def _known_method(method: str) -> str:
    """A label has few values: what a stranger calls a method is not one of them."""
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
