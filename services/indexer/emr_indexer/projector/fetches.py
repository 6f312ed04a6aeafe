"""A faust transport that hands on what Kafka answered as it came, partition by partition.

faust's own makes an object of each record, passes it to each channel, and keeps a list of every record that was
acknowledged: 70 µs a record. Here a topic's records stay in the order of their partitions in one queue, and what is
acknowledged of a partition is an offset: everything before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from aiokafka.errors import IllegalStateError
from emr_common import streams

from emr_indexer.projector.records import Record

POLL_SECONDS = 1.0
MOST_WAITING, MOST_WAITING_BYTES = 4000, 32 * 1024 * 1024
"""Of a topic; a poll that makes it as many is the last until some were taken."""


class Incoming:
    """Records of one topic, in the order of their partitions. They may be looked at before they are taken."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._seen = 0  # of those that wait, the first so many
        self._some = asyncio.Event()
        self._some_unseen = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, records: Iterable[Record]) -> None:
        for record in records:
            self._records.append(record)
            self._bytes += len(record.value)
        self._tell()

    def drop(self, partitions: Collection[int]) -> None:
        """They are somebody else's, or come again."""
        self._records = deque(record for record in self._records if record.partition not in partitions)
        self._bytes = sum(len(record.value) for record in self._records)
        self._seen = 0
        self._tell()

    async def room(self) -> None:
        await self._room.wait()

    async def look(self) -> Record:
        """The next one that nobody has looked at. It is left where it is."""
        while self._seen == len(self._records):
            await self._some_unseen.wait()
        record = self._records[self._seen]
        self._seen += 1
        self._tell()
        return record

    async def take(self, most: int, most_bytes: int) -> list[Record]:
        """What waits: at least one record, and no more than ``most``, nor after ``most_bytes`` are reached."""
        await self._some.wait()
        taken: list[Record] = []
        size = 0
        while self._records and len(taken) < most and size < most_bytes:
            taken.append(self._records.popleft())
            size += len(taken[-1].value)
        self._bytes -= size
        self._seen = max(0, self._seen - len(taken))
        self._tell()
        return taken

    def _tell(self) -> None:
        _set(self._some, bool(self._records))
        _set(self._some_unseen, self._seen < len(self._records))
        _set(self._room, len(self._records) < MOST_WAITING and self._bytes < MOST_WAITING_BYTES)


def _set(event: asyncio.Event, holds: bool) -> None:
    if holds:
        event.set()
    else:
        event.clear()


class FetchingConsumer(streams.Consumer):
    """faust's consumer, with its group, its rebalancing and its commits, between Kafka and ``Transport.incoming``."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._acknowledged: dict[Any, int] = {}

    def acknowledge(self, topic: str, partition: int, offset: int) -> None:
        """Every record of the partition before ``offset`` has had its effect. Committed soon."""
        self._acknowledged[self._new_topicpartition(topic, partition)] = offset

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """What was acknowledged is committed on the way; the rest comes to whoever gets the partitions."""
        await super().on_partitions_revoked(set(revoked))
        for topic, incoming in self._incoming.items():
            incoming.drop({each.partition for each in revoked if each.topic == topic})
        for each in revoked:
            self._acknowledged.pop(each, None)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._fetch()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _fetch(self) -> None:
        await self.wait_first(self._room(), self.suspend_flow.wait())
        found, active = await self._wait_next_records(POLL_SECONDS)
        if not self.flow_active:
            # What was found may be from after faust's going back to what was committed: it would not come again.
            if found and not (await self.wait(self.can_resume_flow)).stopped:
                await self._go_back()
            return
        for each, records in (found or {}).items():
            if active is None or each in active:
                self._incoming[each.topic].put(
                    Record(each.partition, record.offset, record.value or b"", record.headers) for record in records
                )
        await asyncio.sleep(0)

    async def _go_back(self) -> None:
        """To what was committed; where nothing was, to the start. aiokafka does when partitions change hands again."""
        with suppress(IllegalStateError):  # no longer this worker's
            await self.perform_seek()
            fresh = [each for each in self.assignment() if not self._committed_offset.get(each)]
            if fresh:
                await self._thread.seek_to_beginning(*(self._new_topicpartition(*each) for each in fresh))

    async def _room(self) -> None:
        for each in self._incoming.values():
            await each.room()

    @property
    def _incoming(self) -> Mapping[str, Incoming]:
        incoming: Mapping[str, Incoming] = self.transport.incoming
        return incoming

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[Any]:
        return [each for each in self._acknowledged if topics is None or each in topics or each.topic in topics]

    def _new_offset(self, tp: Any) -> int | None:
        return self._acknowledged.pop(tp, None)

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Left to ``Monitor``, which asks Kafka."""


class Transport(streams.Transport):
    Consumer: ClassVar[type[streams.Consumer]] = FetchingConsumer

    def __init__(self, app: Any, topics: Sequence[str]) -> None:
        super().__init__(app)
        self.incoming = {topic: Incoming() for topic in topics}
