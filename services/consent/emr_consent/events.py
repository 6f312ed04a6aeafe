"""Server-sent events (WHATWG HTML, section 9.2) of what changes between hospitals, to whoever it concerns.

One watcher a process asks Postgres and tells all listeners. A listener that is too slow, or whose token or enrolment
has ended, is let go; with `Last-Event-ID` it goes on where it was. Events may repeat, none goes missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

import structlog
from emr_common.problems import Problem
from emr_common.shares import Shares
from emr_common.wallet import Caller
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from sqlalchemy.exc import SQLAlchemyError

from emr_consent.changes import Change, Changes, ChangeStore

MEDIA_TYPE = "text/event-stream"
MOST_LISTENERS = 100
MOST_OF_A_CALLER = 10
POLL_SECONDS = 0.25
CHECK_SECONDS = 5.0
FAR_BEHIND_BLOCKS = 100
RETRY_MILLISECONDS = 2000

Check = Callable[[], Awaitable[Caller]]
"""Who listens, as of now; raises Problem once the token or the enrolment no longer counts."""

log = structlog.get_logger(__name__)


class Feed:
    def __init__(self, store: ChangeStore) -> None:
        self._store = store
        self._streams: Shares[str] = Shares()
        self._recent = Changes(-1, -1, ())
        self._moved = asyncio.Event()
        self._is_closing = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        watcher = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            self.close()
            watcher.cancel()
            await asyncio.wait([watcher])

    def close(self) -> None:
        """Ends all streams: their clients come again, to another instance."""
        self._is_closing = True
        self._moved.set()

    async def stream(self, check: Check, after: int | None) -> AsyncIterator[bytes]:
        """Events after block `after`, else from now on, until the client goes away or `check` fails.

        Raises Problem before the first event: OVERLOADED when there are too many listeners, TOO_MANY_REQUESTS when too
        many are this caller's, or what `check` raises.
        """
        if self._streams.in_use >= MOST_LISTENERS or self._is_closing:
            raise Problem(Code.OVERLOADED)
        caller = await check()
        if self._streams.of(caller.enrolment_id) >= MOST_OF_A_CALLER:
            raise Problem(Code.TOO_MANY_REQUESTS, headers={"Retry-After": "5"})
        return self._events(check, caller, await self._store.newest_block() if after is None else after)

    async def _events(self, check: Check, caller: Caller, position: int) -> AsyncIterator[bytes]:
        listener = caller.enrolment_id
        self._streams.take(listener)
        checked_at = time.monotonic()
        try:
            yield f"retry: {RETRY_MILLISECONDS}\nid: {position}\n\n".encode()
            while not self._is_closing:
                news = await self._after(position, caller)
                yield _written(news.of(caller)) or b": \n\n"
                position = news.up_to
                if time.monotonic() - checked_at > CHECK_SECONDS:
                    caller, checked_at = await check(), time.monotonic()
        except (Problem, SQLAlchemyError, OSError) as error:
            log.info("event_stream_ended", failure=type(error).__name__)
        finally:
            self._streams.give_back(listener)

    async def _after(self, position: int, caller: Caller) -> Changes:
        """Waits for a block after `position`, CHECK_SECONDS at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                while self._recent.up_to <= position and not self._is_closing:
                    await self._moved.wait()
        if self._recent.since == position:
            return self._recent
        return await self._store.after(position, caller.emr_id if caller.role is Role.PATIENT else None)

    async def _watch(self) -> None:
        """Keeps the newest changes while anybody listens."""
        while True:
            if self._streams.in_use:
                with suppress(SQLAlchemyError, OSError):
                    await self._look()
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self) -> None:
        changes = await self._store.after(self._recent.up_to, most_blocks=FAR_BEHIND_BLOCKS)
        if changes.up_to > self._recent.up_to:
            self._recent = changes
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()


def _written(changes: list[Change]) -> bytes:
    """The last event of a block carries its number: who comes again after half a block gets all of that block."""
    lines: list[bytes] = []
    for position, change in enumerate(changes):
        is_last = position + 1 == len(changes) or changes[position + 1].block != change.block
        number = f"id: {change.block}\n".encode() if is_last else b""
        lines.append(b"event: " + change.kind.encode() + b"\n" + number + b"data: " + change.json + b"\n\n")
    return b"".join(lines)
