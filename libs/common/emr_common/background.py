"""Work that waits in Postgres and is done beside requests, each piece by one instance at a time.

A piece belongs to whichever instance holds its lock; one that died leaves it to the next.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError

from emr_common.locks import AdvisoryLocks
from emr_common.problems import OutcomePending, Problem

PIECES_AT_ONCE = 8
BROKEN_SECONDS = 60.0  # before a piece that met a fault of ours is tried again

log = structlog.get_logger(__name__)


class BackgroundWork(ABC):
    """``kind`` names the work's locks and log lines. Every ``poll_seconds``, and when it is woken, it looks for what
    waits.
    """

    def __init__(self, kind: str, locks: AdvisoryLocks, poll_seconds: float) -> None:
        self._kind = kind
        self._locks = locks
        self._poll_seconds = poll_seconds
        self._wake_up = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}

    @abstractmethod
    async def waiting(self) -> Sequence[str]:
        """Names of the pieces that wait, in the order in which they are to be begun."""

    @abstractmethod
    async def do(self, name: str) -> None:
        """Does a piece as far as it goes; may be cut off anywhere. Nobody else does the same one meanwhile.

        Problem, OutcomePending and failures of the database mean that it may go better later.
        """

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works while entered; what is under way when it is left is resumed by the next that runs."""
        watcher = asyncio.create_task(self._watch(), name=self._kind)
        try:
            yield
        finally:
            tasks = [watcher, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wake_up(self) -> None:
        """Something new may wait."""
        self._wake_up.set()

    async def _watch(self) -> None:
        while True:
            self._wake_up.clear()
            try:
                for name in await self.waiting():
                    self._start(name)
            except (SQLAlchemyError, OSError) as error:
                log.warning("work_not_listed", kind=self._kind, exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake_up.wait()

    def _start(self, name: str) -> None:
        if name in self._tasks or len(self._tasks) >= PIECES_AT_ONCE:
            return
        if time.monotonic() < self._not_before.get(name, 0):
            return
        task = asyncio.create_task(self._process(name), name=self._kind)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        """There may be pieces that waited for a place."""
        was_full = len(self._tasks) >= PIECES_AT_ONCE
        del self._tasks[name]
        if was_full:
            self._wake_up.set()

    async def _process(self, name: str) -> None:
        try:
            async with self._locks.try_hold(f"{self._kind}:{name}") as is_mine:
                if is_mine:
                    await self.do(name)
            self._not_before.pop(name, None)
        except (Problem, OutcomePending, SQLAlchemyError, OSError) as error:
            self._not_before[name] = time.monotonic() + self._poll_seconds
            log.info("work_waits", kind=self._kind, name=name, exc_info=error)
        except Exception as error:
            self._not_before[name] = time.monotonic() + BROKEN_SECONDS
            log.error("work_broken", kind=self._kind, name=name, exc_info=error)
