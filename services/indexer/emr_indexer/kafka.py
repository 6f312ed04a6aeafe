"""The hospital's topics, and clients with the settings that keep messages safe (aiokafka's defaults do not)."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidReplicationFactorError, KafkaError, TopicAlreadyExistsError, for_code
from emr_model.ledger.events import MAX_RECORD_BYTES, Topics, TopicSettings
from hlf.backoff import jittered

REQUEST_TIMEOUT_MS = 10_000
BATCH_BYTES = 512 * 1024
LOG_SECONDS = 30.0
COPIES = 3
"""Replicas of each partition, where there are that many brokers."""

log = structlog.get_logger(__name__)


class TopicsUnusable(Exception):
    """A topic exists with another number of partitions: events about one EMR would not stay in one partition."""


async def ensure_topics(bootstrap_servers: Sequence[str], topics: Topics) -> None:
    """Creates the topics that are missing; waits for a Kafka that is not there yet. Raises TopicsUnusable.

    Before any faust worker starts: it would ignore a topic that is missing then, for ever.
    """
    for wait_seconds in jittered(0.1, 5.0):
        try:
            await _create_missing(bootstrap_servers, topics)
            return
        except (KafkaError, OSError) as error:
            if not may_pass(error):
                raise
            log.warning("kafka_unreachable", exc_info=error)
            await asyncio.sleep(wait_seconds)


async def _create_missing(bootstrap_servers: Sequence[str], topics: Topics) -> None:
    async with admin(bootstrap_servers) as client:
        wanted = topics.settings
        copies = max(1, min(COPIES, len((await client.describe_cluster())["brokers"])))
        response = await client.create_topics([_new_topic(name, each, copies) for name, each in wanted.items()])
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(name)
        for description in await client.describe_topics(list(wanted)):
            if description["error_code"]:
                raise for_code(description["error_code"])(description["topic"])  # made, and not known everywhere yet
            expected = wanted[description["topic"]].partitions
            if len(description["partitions"]) != expected:
                raise TopicsUnusable(f"{description['topic']} must have {expected} partitions")


def _new_topic(name: str, settings: TopicSettings, copies: int) -> NewTopic:
    return NewTopic(name, settings.partitions, copies, topic_configs=dict(settings.configuration))


def may_pass(error: KafkaError | OSError) -> bool:
    """Whether the failure ends by itself, when brokers are back and have leaders."""
    return isinstance(error, OSError | InvalidReplicationFactorError) or bool(error.retriable)


class SparseLog(logging.Filter):
    """Lets each kind of message of aiokafka through once in a while: without a broker it logs hundreds a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at_seconds: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        kind, now = (record.name, record.lineno), time.monotonic()
        is_due = now - self._logged_at_seconds.get(kind, -math.inf) >= LOG_SECONDS
        if is_due:
            self._logged_at_seconds[kind] = now
        return is_due


def log_sparsely() -> None:
    """To be called once logging is configured."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(SparseLog())


@asynccontextmanager
async def admin(bootstrap_servers: Sequence[str]) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        yield client
    finally:
        await _ended(client.close())


@asynccontextmanager
async def producer(bootstrap_servers: Sequence[str]) -> AsyncIterator[AIOKafkaProducer]:
    """Acknowledged by all replicas, in order and once per partition as long as the producer lives."""
    client = AIOKafkaProducer(
        bootstrap_servers=list(bootstrap_servers),
        enable_idempotence=True,
        acks="all",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        max_batch_size=BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
    )
    try:
        await client.start()
        yield client
    finally:
        await _ended(client.stop())


@asynccontextmanager
async def reader(bootstrap_servers: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside any group: it commits nothing, its caller assigns and seeks."""
    client = AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap_servers),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await client.start()
        yield client
    finally:
        await _ended(client.stop())


async def _ended(ending: Coroutine[Any, Any, None]) -> None:
    """aiokafka takes a cancel that comes while it ends for the one that it sent to a task of its own: nobody would hear
    of it, and what was told to end would go on for ever. So it ends in a task that nobody else cancels.
    """
    task = asyncio.create_task(ending)
    try:
        await asyncio.wait([task])
    finally:
        await asyncio.wait([task])
    task.result()
