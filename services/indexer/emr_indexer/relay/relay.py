"""The relay as a whole: leads, resumes, runs the stages, and begins again after any interruption but a broken chain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import structlog
from aiokafka.errors import KafkaError
from emr_model.ledger.events import Topics
from hlf.backoff import jittered
from hlf.errors import DeliverError, HlfError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.kafka import ensure_topics, producer
from emr_indexer.leadership import RELAY_LOCK, Leadership, LeadershipLost, lead
from emr_indexer.relay import metrics
from emr_indexer.relay.facts import BlockReader
from emr_indexer.relay.late import FetchBlock, LateContents
from emr_indexer.relay.resume import last_relayed
from emr_indexer.relay.stages import BlockSource, Stages
from emr_indexer.relay.traces import Traces

PASSING = (HlfError, KafkaError, SQLAlchemyError, LeadershipLost, OSError, TimeoutError)
"""What ends by itself when a peer, Kafka or Postgres is back."""

LONGEST_WAIT_SECONDS = 5.0

log = structlog.get_logger(__name__)


class RelayState(Enum):
    STARTING = "starting"
    STANDING_BY = "standing by"
    RELAYING = "relaying"
    INTERRUPTED = "interrupted"
    HALTED = "halted"


@dataclass(frozen=True)
class Kafka:
    bootstrap_servers: tuple[str, ...]
    topics: Topics


class Relay:
    def __init__(
        self,
        engine: AsyncEngine,
        kafka: Kafka,
        channel: str,
        blocks: BlockSource,
        reader: BlockReader,
        fetch: FetchBlock,
    ) -> None:
        self._late = LateContents(engine, fetch, reader, kafka.topics)
        self._engine = engine
        self._kafka = kafka
        self._channel = channel
        self._blocks = blocks
        self._reader = reader
        self.state = RelayState.STARTING

    async def run(self) -> None:
        """Runs until cancelled. After a block that does not fit the chain it does nothing any more, and says so:
        nothing may be derived from a ledger that contradicts itself. What it does not expect, it raises.
        """
        await ensure_topics(self._kafka.bootstrap_servers, self._kafka.topics)
        waits = jittered(0.1, LONGEST_WAIT_SECONDS)
        while self.state is not RelayState.HALTED:
            try:
                async with lead(self._engine, RELAY_LOCK, self._stand_by) as leadership:
                    await self._lead(leadership)
            except* PASSING as failures:
                self._interrupted(failures)
            metrics.ACTIVE.set(0)
            await asyncio.sleep(next(waits))
        await asyncio.get_running_loop().create_future()

    def _stand_by(self) -> None:
        self.state = RelayState.STANDING_BY

    async def _lead(self, leadership: Leadership) -> None:
        kafka = self._kafka
        checkpoint = await last_relayed(kafka.bootstrap_servers, kafka.topics, self._channel)
        metrics.BLOCK.set(checkpoint.block_number if checkpoint else -1)
        async with producer(kafka.bootstrap_servers) as client, asyncio.TaskGroup() as group:
            group.create_task(leadership.watch())
            stages = Stages(self._blocks, self._reader, client, kafka.topics, self._late.expect, Traces(self._engine))
            group.create_task(stages.run(checkpoint))
            group.create_task(self._late.run(client))
            self.state = RelayState.RELAYING
            metrics.ACTIVE.set(1)
            log.info("relaying", after_block=checkpoint.block_number if checkpoint else -1)

    def _interrupted(self, failures: BaseExceptionGroup[Exception]) -> None:
        self.state = RelayState.INTERRUPTED
        for failure in _leaves(failures):
            metrics.INTERRUPTIONS.labels(type(failure).__name__).inc()
            log.warning("relay_interrupted", exc_info=failure)
            if isinstance(failure, DeliverError) and failure.is_chain_broken:
                self.state = RelayState.HALTED
                metrics.HALTED.set(1)
                log.critical("relay_halted_chain_broken")


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for failure in group.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure
