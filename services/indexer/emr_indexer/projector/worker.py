"""The faust application: which topics are read, in what batches, and when a record is acknowledged.

faust acknowledges what an agent took, even when the agent raised, and delivers on. So nothing is left to it: batches
come unacknowledged (``noack_take``), a record is acknowledged after its rows are committed, and a failure that nobody
foresaw ends the process, whose successor begins at the first record that was not acknowledged.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import faust
from emr_common import streams
from emr_common.settings import KafkaSettings
from emr_model.ledger.events import MAX_RECORD_BYTES

from emr_indexer.projector.projector import Record
from emr_indexer.projector.traces import traced_batch

BATCH_MESSAGES = 200
BATCH_SECONDS = 0.02
COMMIT_SECONDS = 1.0
SESSION_SECONDS = 12.0  # how long the partitions of a worker that was killed wait for the next one


class HandlerFailed(Exception):
    """For faust, which logs an exception's text: that of a database's error may hold a row."""


OnRecords = Callable[[Sequence[Record]], Awaitable[Collection[Record]]]
"""Returns the records to acknowledge."""


@dataclass(frozen=True)
class Handlers:
    on_events: OnRecords
    on_dead_letters: OnRecords
    on_assigned: Callable[[int], None]
    """A partition of the topic of events comes to this worker, from its first unacknowledged record on."""


class Worker:
    """``failure`` is set, and the worker of no more use, once a handler raised."""

    def __init__(self, settings: KafkaSettings, group: str, handlers: Handlers) -> None:
        self._topics = settings.topics
        self._handlers = handlers
        self._folder = tempfile.TemporaryDirectory(prefix="emr-projector-")  # faust wants one; nothing is kept in it
        self._app = _application(settings, group, self._folder.name)
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._declare("project", self._topics.events, handlers.on_events)
        self._declare("keep-dead-letters", self._topics.dead_letters, handlers.on_dead_letters)
        self._app.on_partitions_assigned.connect(self._on_assigned)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self._folder:
            async with streams.running(self._app):
                yield

    def _declare(self, name: str, topic: str, handle: OnRecords) -> None:
        async def agent(stream: Any) -> None:
            async for events in stream.noack_take(BATCH_MESSAGES, within=BATCH_SECONDS):
                with traced_batch(f"process {topic}", [each.message.headers for each in events]):
                    await self._handle(handle, stream, events)

        raw = self._app.topic(topic, value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")
        self._app.agent(raw, name=name)(agent)

    async def _handle(self, handle: OnRecords, stream: Any, events: Sequence[Any]) -> None:
        records = [Record(each.message.partition, each.message.offset, each.value) for each in events]
        try:
            done = {(record.partition, record.offset) for record in await handle(records)}
        except Exception as error:
            if not self.failure.done():
                self.failure.set_exception(error)
            raise HandlerFailed(type(error).__name__) from None
        for each in events:
            if (each.message.partition, each.message.offset) in done:
                await stream.ack(each)

    async def _on_assigned(self, _: Any, assigned: Collection[Any], **__: Any) -> None:
        for partition in assigned:
            if partition.topic == self._topics.events:
                self._handlers.on_assigned(partition.partition)


def _application(settings: KafkaSettings, group: str, folder: str) -> Any:
    return faust.App(
        group,
        broker=[f"aiokafka://{server}" for server in settings.bootstrap_servers],
        datadir=folder,
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        broker_commit_interval=COMMIT_SECONDS,
        broker_session_timeout=SESSION_SECONDS,
        stream_wait_empty=False,
    )
