"""The faust application: which topics are read, in what batches, and when a record is acknowledged.

faust acknowledges what an agent took, even when the agent raised, and delivers on. So there is no agent: the records
that have come meanwhile are taken together (``fetches``), a record is acknowledged after its rows are committed, and a
failure that nobody foresaw ends the process, whose successor begins at the first record that was not acknowledged.
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

from emr_indexer.projector.fetches import Transport
from emr_indexer.projector.records import Record
from emr_indexer.projector.traces import traced_batch

BATCH_MESSAGES = 2000
BATCH_BYTES = 8 * 1024 * 1024
COMMIT_SECONDS = 1.0
LOOKED_AT_ONCE = 20
SESSION_SECONDS = 12.0  # how long the partitions of a worker wait that is killed, or ends, and does not come back


OnRecords = Callable[[Sequence[Record]], Awaitable[Collection[Record]]]
"""Returns the records to acknowledge."""

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Handlers:
    on_events: OnRecords
    on_dead_letters: OnRecords
    look_ahead: Callable[[Record], None]
    """Is shown records of events that wait, while there is nothing else to do: not every one."""
    on_assigned: Callable[[int], None]
    """A partition of the topic of events comes to this worker, from its first unacknowledged record on."""


class Worker:
    """``failure`` is set, and the worker of no more use, once a handler raised or faust failed."""

    def __init__(self, settings: KafkaSettings, group: str, member: str, handlers: Handlers) -> None:
        """``member`` names this process in the group: one that follows it under the name has its partitions at once."""
        self._topics = settings.topics
        self._handlers = handlers
        self._folder = tempfile.TemporaryDirectory(prefix="emr-projector-")  # faust wants one; nothing is kept in it
        self._app = _application(settings, group, member, self._folder.name)
        self._app.transport = Transport(self._app, (self._topics.events, self._topics.dead_letters))
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._works = [
            self._work(self._topics.events, handlers.on_events),
            self._work(self._topics.dead_letters, handlers.on_dead_letters),
            self._look_ahead,
            lambda: streams.until_crash(self._app),
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
        self._app.topics.add(self._app.topic(topic))
        incoming = self._app.transport.incoming[topic]

        async def work() -> None:
            while True:
                found = await incoming.take(BATCH_MESSAGES, BATCH_BYTES)
                with traced_batch(f"process {topic}", [each.headers for each in found]):
                    await self._handle(topic, handle, found)

        return work

    async def _look_ahead(self) -> None:
        incoming = self._app.transport.incoming[self._topics.events]
        while True:
            for _ in range(LOOKED_AT_ONCE):
                self._handlers.look_ahead(await incoming.look())
            await asyncio.sleep(0)  # Postgres may have answered

    async def _handle(self, topic: str, handle: OnRecords, records: Sequence[Record]) -> None:
        done = await handle(records)
        for partition, offset in first_left(records, done).items():
            self._app.consumer.acknowledge(topic, partition, offset)

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


def first_left(records: Sequence[Record], done: Collection[Record]) -> dict[int, int]:
    """By partition, the offset before which every record is done; partitions of which the first is not are left out."""
    is_done = set(done)
    offsets: dict[int, int] = {}
    stopped: set[int] = set()
    for record in records:
        if record not in is_done:
            stopped.add(record.partition)
        elif record.partition not in stopped:
            offsets[record.partition] = record.offset + 1
    return offsets


def _application(settings: KafkaSettings, group: str, member: str, folder: str) -> Any:
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
        consumer_group_instance_id=member,
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        broker_commit_interval=COMMIT_SECONDS,
        broker_session_timeout=SESSION_SECONDS,
        stream_wait_empty=False,
    )
