"""A worker of the projector when partitions change hands, and at its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from emr_common.settings import KafkaSettings
from emr_common.streams import ConsumerThread
from emr_indexer.kafka import ensure_topics, producer
from emr_indexer.projector.fetches import FetchingConsumer
from emr_indexer.projector.records import Record
from emr_indexer.projector.worker import Handlers, Worker
from support.kafka import KafkaServer

NUMBERS = set(range(5))


class Taking:
    """A worker that takes five records, which are in Kafka already."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._offsets: set[int] = set()
        self._has_all = asyncio.Event()
        handlers = Handlers(self._take, self._take, lambda _: None, lambda _: None)
        self.worker = Worker(settings, f"{settings.topic_prefix}.group", "member", handlers)

    async def _take(self, records: Sequence[Record]) -> Collection[Record]:
        self._offsets.update(record.offset for record in records)
        if self._offsets == NUMBERS:
            self._has_all.set()
        return records

    async def until_all_came(self) -> None:
        async with asyncio.timeout(60):
            await self._has_all.wait()

    async def until_committing(self) -> None:
        """And there is more to commit."""
        consumer = self.worker._app.consumer
        while consumer._commit_fut is None:
            await asyncio.sleep(0.01)
        consumer.acknowledge(self._settings.topics.events, 0, len(NUMBERS))

    @property
    def thread(self) -> Any:
        """faust's, in which aiokafka's consumer lives."""
        return self.worker._app.consumer._thread

    async def rejoin(self, revoked: asyncio.Event) -> None:
        """As when another comes to the group; until partitions were taken from this one."""
        revoked.clear()
        self.thread.thread_loop.call_soon_threadsafe(self.thread._consumer._coordinator.request_rejoin)
        await revoked.wait()

    def ended(self) -> Callable[[], bool]:
        """To be asked after the end: whether the thread, and all its connections, are gone."""
        client, thread = self.thread._consumer._client, self.thread._thread
        return lambda: not thread.is_alive() and not any(each.connected() for each in client._conns.values())


@pytest.fixture
async def taking(settings: KafkaSettings) -> Taking:
    await ensure_topics(settings.bootstrap_servers, settings.topics)
    async with producer(settings.bootstrap_servers) as client:
        for number in NUMBERS:
            await client.send_and_wait(settings.topics.events, b"%d" % number, partition=0)
    return Taking(settings)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The first records are fetched while partitions change hands, after faust went back to what was committed."""
    fetch, interrupted = FetchingConsumer._wait_next_records, asyncio.Event()

    async def interrupted_once(consumer: FetchingConsumer, timeout: float) -> Any:
        answer = await fetch(consumer, timeout)
        if answer[0] and not interrupted.is_set():
            interrupted.set()
            consumer.stop_flow()
            asyncio.get_running_loop().call_soon(consumer.resume_flow)
        return answer

    monkeypatch.setattr(FetchingConsumer, "_wait_next_records", interrupted_once)
    return interrupted


@pytest.fixture
def revoked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when partitions were taken from a worker."""
    revoke, revoked = FetchingConsumer.on_partitions_revoked, asyncio.Event()

    async def tell(consumer: FetchingConsumer, partitions: Collection[Any]) -> None:
        await revoke(consumer, partitions)
        revoked.set()

    monkeypatch.setattr(FetchingConsumer, "on_partitions_revoked", tell)
    return revoked


async def test_what_is_fetched_while_partitions_change_hands_is_not_lost(
    taking: Taking, interrupted: asyncio.Event
) -> None:
    async with taking.worker.running():
        await taking.until_all_came()
    assert interrupted.is_set()


async def test_nor_when_one_of_them_went_to_another_worker_on_the_way_back(
    taking: Taking, interrupted: asyncio.Event, revoked: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek, is_late = ConsumerThread.seek_to_beginning, asyncio.Event()

    async def seek_late(thread: ConsumerThread, *partitions: TopicPartition) -> None:
        is_late.set()
        await taking.rejoin(revoked)
        await seek(thread, *partitions, TopicPartition(partitions[0].topic, 99))

    monkeypatch.setattr(ConsumerThread, "seek_to_beginning", seek_late)
    async with taking.worker.running():
        await taking.until_all_came()
    assert is_late.is_set()


async def test_a_failure_of_fausts_is_the_workers(taking: Taking, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: FetchingConsumer) -> None:
        raise RuntimeError("of faust's")

    async with taking.worker.running():
        await taking.until_all_came()
        monkeypatch.setattr(FetchingConsumer, "_fetch", fail)
        async with asyncio.timeout(60):
            with pytest.raises(RuntimeError, match="of faust's"):
                await taking.worker.failure


async def test_nothing_stays_open_when_partitions_change_hands_at_the_end(
    taking: Taking, revoked: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = FetchingConsumer.on_stop

    async def rejoin_first(consumer: FetchingConsumer) -> None:
        await taking.rejoin(revoked)
        await commit(consumer)

    monkeypatch.setattr(FetchingConsumer, "on_stop", rejoin_first)
    async with taking.worker.running():
        await taking.until_all_came()
        ended = taking.ended()
    assert ended()


@pytest.mark.parametrize("is_committing", [False, True])
async def test_a_worker_ends_while_kafka_does_not_answer(
    taking: Taking, kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch, is_committing: bool
) -> None:
    """What it took and could not acknowledge comes again."""
    monkeypatch.setattr("emr_common.streams.COMMIT_SECONDS", 0.5)
    assert kafka.process is not None
    try:
        async with taking.worker.running():
            await taking.until_all_came()
            ended = taking.ended()
            kafka.process.send_signal(signal.SIGSTOP)
            if is_committing:
                await taking.until_committing()
        assert ended()
    finally:
        kafka.process.send_signal(signal.SIGCONT)
