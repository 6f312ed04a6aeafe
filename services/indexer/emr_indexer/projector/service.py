"""The projector as a whole: prepares, consumes and watches, in the background of its process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import structlog
from emr_common.settings import KafkaSettings
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.kafka import ensure_topics
from emr_indexer.postgres import persistently
from emr_indexer.projector import store
from emr_indexer.projector.dead_letters import DeadLetters
from emr_indexer.projector.monitor import Monitor
from emr_indexer.projector.projector import Projector
from emr_indexer.projector.seats import Seat, seated
from emr_indexer.projector.worker import Handlers, Worker

GARBAGE_AFTER = 20_000
"""Objects made, net, before cycles are looked for: a batch makes as many, and nearly all of them end by themselves."""

log = structlog.get_logger(__name__)


class ProjectorService:
    def __init__(self, engine: AsyncEngine, kafka: KafkaSettings, projector: Projector) -> None:
        self._engine = engine
        self._kafka = kafka
        self._projector = projector
        self._monitor: Monitor | None = None

    @property
    def checks(self) -> dict[str, Callable[[], bool]]:
        """What readiness is made of, beside the database."""
        return {
            "consumer": lambda: self._monitor is not None and self._monitor.is_connected,
            "partitions": lambda: not self._projector.stopped,
            "batches": lambda: not self._projector.is_waiting_for_database,
        }

    async def run(self) -> None:
        """Until cancelled. Raises when the consumer stands still or fails, when another process has this one's seat, or
        when a person let a stopped partition go on: the process must begin anew then.
        """
        gc.set_threshold(GARBAGE_AFTER)
        topics = self._kafka.topics
        generation = await persistently(lambda: store.prepare(self._engine, topics.partitions))
        await self._projector.replay_all()
        await ensure_topics(self._kafka.bootstrap_servers, topics)
        group = f"{self._kafka.topic_prefix}.projector.{generation}"
        stopped_here = self._projector.stopped.keys()
        self._monitor = Monitor(self._engine, self._kafka.bootstrap_servers, topics, group, stopped_here)
        keep = DeadLetters(self._engine).keep
        handlers = Handlers(self._projector.project, keep, self._projector.look_ahead, self._projector.resume)
        async with seated(self._engine) as seat:
            worker = Worker(self._kafka, group, f"projector-{seat.number}", handlers)
            async with worker.running():
                log.info("projecting", group=group, seat=seat.number)
                await self._until_failure(worker, self._monitor, seat)

    async def _until_failure(self, worker: Worker, monitor: Monitor, seat: Seat) -> None:
        watches = [asyncio.create_task(monitor.run()), asyncio.create_task(seat.keep())]
        try:
            done, _ = await asyncio.wait({*watches, worker.failure}, return_when=asyncio.FIRST_COMPLETED)
            await done.pop()
        finally:
            for each in watches:
                each.cancel()
