"""The faust application: which topics are read, in what batches, and when a record is acknowledged.

faust acknowledges what an agent took, even when the agent raised, and delivers on. So there is no agent: the records
that have come meanwhile are taken together from faust's channel, a record is acknowledged after its rows are committed,
and a failure that nobody foresaw ends the process, whose successor begins at the first record that was not
acknowledged.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import faust
from emr_common import streams
from emr_common.settings import KafkaSettings
from emr_model.ledger.events import MAX_RECORD_BYTES

from emr_indexer.projector.projector import Record
from emr_indexer.projector.traces import traced_batch

BATCH_MESSAGES = 1000
BATCH_BYTES = 8 * 1024 * 1024
QUIET_TURNS = 10
COMMIT_SECONDS = 1.0
SESSION_SECONDS = 12.0  # how long the partitions of a worker that was killed wait for the next one


OnRecords = Callable[[Sequence[Record]], Awaitable[Collection[Record]]]
"""Returns the records to acknowledge."""

Work = Callable[[], Coroutine[Any, Any, None]]


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
        self._works = [
            self._work(self._topics.events, handlers.on_events),
            self._work(self._topics.dead_letters, handlers.on_dead_letters),
        ]
        self._app.on_partitions_assigned.connect(self._on_assigned)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self._folder:
            async with streams.running(self._app):
                works = [asyncio.create_task(self._until_failure(work)) for work in self._works]
                try:
                    yield
                finally:
                    for each in works:
                        each.cancel()
                    await asyncio.gather(*works, return_exceptions=True)

    def _work(self, topic: str, handle: OnRecords) -> Work:
        """Subscribes now: faust passes a topic by that is added once it runs."""
        raw = self._app.topic(topic, value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")
        incoming = aiter(raw).queue

        async def work() -> None:
            while True:
                events = await _batch(incoming)
                with traced_batch(f"process {topic}", [each.message.headers for each in events]):
                    await _handle(handle, events)

        return work

    async def _until_failure(self, work: Work) -> None:
        try:
            await work()
        except Exception as error:
            if not self.failure.done():
                self.failure.set_exception(error)

    async def _on_assigned(self, _: Any, assigned: Collection[Any], **__: Any) -> None:
        for partition in assigned:
            if partition.topic == self._topics.events:
                self._handlers.on_assigned(partition.partition)


async def _handle(handle: OnRecords, events: Sequence[Any]) -> None:
    records = [Record(each.message.partition, each.message.offset, each.value) for each in events]
    done = {(record.partition, record.offset) for record in await handle(records)}
    for each in events:
        if (each.message.partition, each.message.offset) in done:
            each.ack()


async def _batch(incoming: Any) -> list[Any]:
    """What has come and goes on coming: at least one record, and no more than fit a transaction."""
    events = [await incoming.get()]
    size = len(events[0].value or b"")
    while len(events) < BATCH_MESSAGES and size < BATCH_BYTES and await _goes_on(incoming):
        events.append(incoming.get_nowait())
        size += len(events[-1].value or b"")
    return events


async def _goes_on(incoming: Any) -> bool:
    """faust passes a record on every few turns of the event loop as long as it has some."""
    for _ in range(QUIET_TURNS):
        if not incoming.empty():
            return True
        await asyncio.sleep(0)
    return not incoming.empty()


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
        stream_buffer_maxsize=2 * BATCH_MESSAGES,
    )
