"""Sending so that no partition ever has a later message without an earlier one, whatever fails."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaProducer
from emr_model.ledger.events import BlockMark, LedgerEvent, Topics, encode, partition_of

Record = tuple[bytes | None, bytes]
"""Key and value."""


async def send_in_order(
    producer: AIOKafkaProducer, topics: Topics, messages: Iterable[LedgerEvent | BlockMark]
) -> None:
    """Sends each event to its partition and each mark to all, and returns when Kafka has acknowledged everything.

    Partitions go at the same time. Within one, records go in batches, of which Kafka takes all or nothing, and a batch
    goes after the one before is acknowledged. Raises KafkaError.
    """
    async with asyncio.TaskGroup() as group:
        for partition, records in _by_partition(messages, topics.partitions).items():
            group.create_task(_send_partition(producer, topics.events, partition, records))


def _by_partition(messages: Iterable[LedgerEvent | BlockMark], partitions: int) -> dict[int, list[Record]]:
    records: dict[int, list[Record]] = defaultdict(list)
    for message in messages:
        value = encode(message)
        if isinstance(message, LedgerEvent):
            records[partition_of(message.subject, partitions)].append((message.subject.encode(), value))
        else:
            for partition in range(partitions):
                records[partition].append((None, value))
    return records


async def _send_partition(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Record]) -> None:
    sent = 0
    while sent < len(records):
        batch = producer.create_batch()
        while sent < len(records):
            key, value = records[sent]
            if batch.append(timestamp=None, key=key, value=value) is None:
                break
            sent += 1
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))
