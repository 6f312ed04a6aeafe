"""A faust application inside a process that does more than that, and that ends when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import structlog
from faust.transport.drivers import aiokafka as driver
from mode.threads import WorkerThread

COMMIT_SECONDS = 4.0
CLOSE_SECONDS = 4.0
STEP_SECONDS = 12.0
"""For the last commit, for aiokafka's own end, and for all of a start or a stop."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Runs a ``faust.App`` until it is left, also when that happens while it starts.

    faust that is cancelled or stopped while it starts never ends: so it starts to the end first. Each step is given a
    bounded time. What was not acknowledged comes again.
    """
    starting = asyncio.create_task(app.start())
    try:
        await asyncio.wait([starting])
        starting.result()
        yield
    finally:
        await asyncio.wait([starting], timeout=STEP_SECONDS)
        stopping = asyncio.create_task(app.stop())
        await asyncio.wait([stopping], timeout=STEP_SECONDS)
        if not stopping.done():
            log.warning("stream_not_stopped")


async def until_crash(app: Any) -> None:
    """Raises what a part of the application failed with: faust goes on, but takes and commits nothing more."""
    await app.wait()
    if app.crashed:
        raise app.crash_reason


class Daemon(WorkerThread):  # type: ignore[misc]
    """Python does not wait for it: a process ends even when its thread was not told to."""

    def __init__(self, service: Any, **named: Any) -> None:
        super().__init__(service, **named)
        self.daemon = True


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """faust's, in which aiokafka's consumer lives."""

    Worker = Daemon

    async def on_thread_stop(self) -> None:
        """aiokafka would wait for others of its group and for a Kafka that is away, or raise CancelledError."""
        try:
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await super().on_thread_stop()
        finally:
            if self._consumer is not None:
                await self._consumer._client.close()

    def close(self) -> None:
        """Left to ``on_thread_stop``. faust calls this when partitions change hands at the end, and would let another
        event loop close what is this thread's: it stayed open.
        """


class Consumer(driver.Consumer):  # type: ignore[misc]
    """faust's, that ends with or without Kafka."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def on_stop(self) -> None:
        """faust would leave the thread running if this failed."""
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await super().on_stop()
        except Exception as error:
            log.warning("last_commit_failed", exc_info=error)

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """faust's is not to be cancelled: it goes on and commits."""
        committing = self._commit_fut
        if committing is not None:
            await asyncio.wait([committing])
        return committing is not None


class Transport(driver.Transport):  # type: ignore[misc]
    Consumer: ClassVar[type[driver.Consumer]] = Consumer

    def __init__(self, app: Any) -> None:
        super().__init__(app.conf.broker_consumer, app)
