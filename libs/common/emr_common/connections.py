"""Connections that do not wait for ever: uvicorn's HTTP/1.1 protocol with bounds on slow heads, unread answers and the
number of connections.

Uvicorn by itself never closes a connection whose request's head comes slowly, nor one whose client does not read.
Bodies are timed in ``boundary``, where what they are for is known.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

import h11
from emr_model.ledger.codes import Code
from uvicorn.protocols.http.h11_impl import H11Protocol

from emr_common import telemetry
from emr_common.problems import MEDIA_TYPE, Problem

HEAD_SECONDS = 10.0
UNREAD_SECONDS = 15.0
MOST_CONNECTIONS = 2048
SPARE_FILES = 128


class Timer:
    """At most one call, after some seconds, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: asyncio.TimerHandle | None = None

    def start(self, seconds: float, action: Callable[[], None]) -> None:
        """Changes nothing while it runs."""
        if self._due is None:
            self._due = self._loop.call_later(seconds, self._end, action)

    def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _end(self, action: Callable[[], None]) -> None:
        self._due = None
        action()


class BoundedProtocol(H11Protocol):
    """A request's head must be there 10 s after its first byte or the connection's start. What is sent must be read
    within 15 s. Over 2048 connections, or what the process may open, a new one is told OVERLOADED and closed.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = Timer(self.loop)
        self._reading = Timer(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            self._turn_away(Code.OVERLOADED)
        else:
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head.stop()
        self._reading.stop()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_head()

    def _watch_head(self) -> None:
        """Time runs while no request is being answered and something of the next has come, or of a body that nobody
        reads any more. Between requests uvicorn's own time for idle connections runs.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self._head.stop()
        elif self.timeout_keep_alive_task is None:
            self._head.start(HEAD_SECONDS, self._give_up_head)

    def _give_up_head(self) -> None:
        if not self.transport.is_closing():
            self._turn_away(Code.REQUEST_TIMEOUT)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._reading.stop()

    def _watch_reader(self) -> None:
        self._reading.start(UNREAD_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP. Nothing of it is repeated or logged."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        is_answered = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if is_answered:
            self.transport.abort()
        else:
            self._turn_away(Code.MALFORMED_REQUEST)

    def _turn_away(self, code: Code) -> None:
        self._head.stop()
        self.transport.write(_whole_answer(code))
        self.transport.close()
        self._watch_reader()

    def shutdown(self) -> None:
        """As uvicorn's, but it must not fail on a connection whose other side has said nonsense."""
        if self.conn.our_state is h11.ERROR:
            self.transport.close()
        else:
            super().shutdown()


def _most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft - SPARE_FILES)


def _whole_answer(code: Code) -> bytes:
    telemetry.begin_request(None)
    response = Problem(code).response()
    head = [f"HTTP/1.1 {code.status} -", f"content-type: {MEDIA_TYPE}", "connection: close", "cache-control: no-store"]
    head += [f"content-length: {len(response.body)}", f"x-request-id: {telemetry.request_id()}"]
    head += [f"retry-after: {seconds}"] if (seconds := response.headers.get("retry-after")) else []
    return "\r\n".join([*head, "", ""]).encode() + bytes(response.body)
