"""Sending so that no partition ever has a later message without an earlier one, whatever fails."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaProducer
from emr_common.tracing import TRACEPARENT
from emr_model.ledger.events import BlockMark, LedgerEvent, Topics, encode, partition_of

Record = tuple[bytes | None, bytes, list[tuple[str, bytes]]]
"""Key, value and headers."""


async def send_in_order(
    producer: AIOKafkaProducer,
    topics: Topics,
    messages: Iterable[LedgerEvent | BlockMark],
    traceparents: Mapping[str, str] | None = None,
) -> None:
    """Sends each event to its partition and each mark to all, and returns when Kafka has acknowledged everything.

    Partitions go at the same time. Within one, records go in batches, of which Kafka takes all or nothing, and a batch
    goes after the one before is acknowledged. ``traceparents`` by transaction id become headers. Raises KafkaError.
    """
    async with asyncio.TaskGroup() as group:
        for partition, records in _by_partition(messages, topics.partitions, traceparents or {}).items():
            group.create_task(_send_partition(producer, topics.events, partition, records))


def _by_partition(
    messages: Iterable[LedgerEvent | BlockMark], partitions: int, traceparents: Mapping[str, str]
) -> dict[int, list[Record]]:
    records: dict[int, list[Record]] = defaultdict(list)
    for message in messages:
        value = encode(message)
        if isinstance(message, LedgerEvent):
            traceparent = traceparents.get(message.transaction_id)
            headers = [] if traceparent is None else [(TRACEPARENT, traceparent.encode())]
            records[partition_of(message.subject, partitions)].append((message.subject.encode(), value, headers))
        else:
            for partition in range(partitions):
                records[partition].append((None, value, []))
    return records


async def _send_partition(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Record]) -> None:
    sent = 0
    while sent < len(records):
        batch = producer.create_batch()
        while sent < len(records):
            key, value, headers = records[sent]
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                break
            sent += 1
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))
