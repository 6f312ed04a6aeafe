"""Where a relay goes on: after the last block of which Kafka has everything."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import TopicPartition
from emr_model.ledger.events import BlockMark, Topics, decode
from hlf.blocks import Checkpoint

from emr_indexer.kafka import reader


class CheckpointUnreadable(Exception):
    """What stands at the end of the topic of blocks is no mark of this channel."""


async def last_relayed(bootstrap_servers: Sequence[str], topics: Topics, channel: str) -> Checkpoint | None:
    """The block whose mark is the last in the topic of blocks; None when nothing was relayed yet.

    Raises CheckpointUnreadable.
    """
    async with reader(bootstrap_servers) as consumer:
        partition = TopicPartition(topics.blocks, 0)
        consumer.assign([partition])
        begin = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        if begin == end:
            return None
        consumer.seek(partition, end - 1)
        record = await consumer.getone(partition)
    return _checkpoint(record.value, channel)


def _checkpoint(value: bytes, channel: str) -> Checkpoint:
    mark = decode(value)
    if not isinstance(mark, BlockMark) or mark.channel != channel:
        raise CheckpointUnreadable("the topic of blocks does not end with a mark of this channel")
    return Checkpoint(mark.block, bytes.fromhex(mark.header_hash))
