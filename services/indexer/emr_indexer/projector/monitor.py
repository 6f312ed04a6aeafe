"""How far the consumer group is behind, as Kafka sees it, and whether it stands still though there is something to do.

faust's consumer can stop silently after a broker's restart, so it is not asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from emr_model.ledger.events import Topics
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.kafka import admin, reader
from emr_indexer.projector import metrics, store

LOOK_SECONDS = 2.0
STUCK_SECONDS = 45.0

log = structlog.get_logger(__name__)


class PartitionReleased(Exception):
    """A person let a partition go on that stopped in this process: its records must come from Kafka once more."""


class ConsumerStuck(Exception):
    """Kafka has messages for a partition that waits for nothing, and none was acknowledged for too long."""


@dataclass(frozen=True)
class Progress:
    """By partition: messages that are not acknowledged, and the offset up to which they are."""

    lags: Mapping[int, int]
    acknowledged: Mapping[int, int]


class Monitor:
    """``is_connected``: Kafka answered when it was last asked."""

    def __init__(
        self,
        engine: AsyncEngine,
        bootstrap_servers: Sequence[str],
        topics: Topics,
        group: str,
        stopped_here: Collection[int],
    ) -> None:
        """``stopped_here`` are the partitions that this process does not read on, as long as it runs."""
        self._engine = engine
        self._stopped_here = stopped_here
        self._bootstrap_servers = bootstrap_servers
        self._partitions = [TopicPartition(topics.events, partition) for partition in range(topics.partitions)]
        self._group = group
        self._watchdog = Watchdog()
        self.is_connected = False

    async def run(self) -> None:
        """Looks again and again; ends only by raising ConsumerStuck or PartitionReleased."""
        while True:
            try:
                async with admin(self._bootstrap_servers) as client, reader(self._bootstrap_servers) as consumer:
                    while True:
                        await self._look(client, consumer)
                        await asyncio.sleep(LOOK_SECONDS)
            except (KafkaError, SQLAlchemyError, OSError, TimeoutError) as error:
                self.is_connected = False
                self._watchdog.forgive()
                log.warning("progress_unknown", exc_info=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, client: Any, consumer: Any) -> None:
        stopped_before = set(self._stopped_here)
        async with asyncio.timeout(LOOK_SECONDS * 5):
            progress = await self._progress(client, consumer)
            stopped = await store.stopped_partitions(self._engine)
            metrics.PARKED.set(await store.count_parked(self._engine))
        self.is_connected = True
        if released := stopped_before - stopped:
            raise PartitionReleased(f"partitions {sorted(released)}")
        for partition, lag in progress.lags.items():
            metrics.LAG_MESSAGES.labels(partition).set(lag)
        self._watchdog.saw(progress, stopped, time.monotonic())

    async def _progress(self, client: Any, consumer: Any) -> Progress:
        committed = await client.list_consumer_group_offsets(self._group, partitions=self._partitions)
        if not all(partition in committed for partition in self._partitions):
            raise GroupCoordinatorNotAvailableError  # the broker has just started
        begins = await consumer.beginning_offsets(self._partitions)
        ends = await consumer.end_offsets(self._partitions)
        offsets = {each: max(committed[each].offset, begins[each]) for each in self._partitions}
        return Progress(
            {each.partition: ends[each] - offset for each, offset in offsets.items()},
            {each.partition: offset for each, offset in offsets.items()},
        )


class Watchdog:
    """Tells a consumer that stands still from one that has nothing to do or waits for a person."""

    def __init__(self) -> None:
        self._moved_at_seconds: dict[int, float] = {}
        self._acknowledged: Mapping[int, int] = {}

    def forgive(self) -> None:
        """Nobody could have moved until now."""
        self._moved_at_seconds.clear()

    def saw(self, progress: Progress, stopped: Collection[int], now_seconds: float) -> None:
        """Raises ConsumerStuck."""
        for partition, lag in progress.lags.items():
            moved = progress.acknowledged[partition] != self._acknowledged.get(partition)
            if moved or lag == 0 or partition in stopped:
                self._moved_at_seconds[partition] = now_seconds
            still_seconds = now_seconds - self._moved_at_seconds.setdefault(partition, now_seconds)
            if still_seconds > STUCK_SECONDS:
                raise ConsumerStuck(f"partition {partition} has not moved for {still_seconds:.0f} s")
        self._acknowledged = dict(progress.acknowledged)
