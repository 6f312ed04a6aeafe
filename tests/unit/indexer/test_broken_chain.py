"""Blocks that official peers made, delivered over Fabric's protocol with one byte changed."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition
from emr_common.settings import KafkaSettings
from emr_indexer.kafka import reader
from emr_indexer.peer import PeerBlocks
from emr_indexer.relay import metrics
from emr_indexer.relay.facts import BlockReader
from emr_indexer.relay.relay import Kafka, Relay, RelayState
from emr_model.ledger.events import Topics, decode
from fabric_protos.common import common_pb2
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from support import golden_chain
from support.hlf_blocks import new_member
from support.hlf_peer import gateway_to, scripted_peer

CHANGED_BLOCK = 3


def _flip_a_byte_of_a_transaction(block: common_pb2.Block) -> None:
    data = bytearray(block.data.data[0])
    data[len(data) // 2] ^= 1
    block.data.data[0] = bytes(data)


def _forge_the_data_hash_too(block: common_pb2.Block) -> None:
    """Then the header fits, and the next block's link does not."""
    block.header.data_hash = bytes(32)


def _flip_a_byte_of_the_link(block: common_pb2.Block) -> None:
    block.header.previous_hash = bytes([block.header.previous_hash[0] ^ 1]) + block.header.previous_hash[1:]


@pytest.mark.parametrize("change", [_flip_a_byte_of_a_transaction, _forge_the_data_hash_too, _flip_a_byte_of_the_link])
async def test_a_flipped_byte_halts_the_relay_with_an_alarm_before_anything_follows_from_it(
    database: AsyncEngine, settings: KafkaSettings, change: object
) -> None:
    assert callable(change)
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.blocks = [common_pb2.Block.FromString(each) for each in golden_chain.blocks()]
        change(peer.blocks[CHANGED_BLOCK])
        source = PeerBlocks(gateway, new_member(), "golden")
        kafka = Kafka(settings.bootstrap_servers, Topics(settings.topic_prefix))
        block_reader = BlockReader("golden", golden_chain.NAMESPACE, "Org1MSP")
        relay = Relay(database, kafka, "golden", source.after, block_reader, source.one)
        metrics.HALTED.set(0)
        with capture_logs() as logged:
            relaying = asyncio.create_task(relay.run())
            async with asyncio.timeout(60):
                while relay.state is not RelayState.HALTED:
                    await asyncio.sleep(0.05)
            relaying.cancel()
            await asyncio.gather(relaying, return_exceptions=True)
    assert metrics.HALTED._value.get() == 1
    assert [each["event"] for each in logged if each["log_level"] == "critical"] == ["relay_halted_chain_broken"]
    assert await _last_marked(settings) < CHANGED_BLOCK
    metrics.HALTED.set(0)


async def _last_marked(settings: KafkaSettings) -> int:
    """The newest block of which anything is in Kafka; -1 without one."""
    topic = Topics(settings.topic_prefix).events
    newest = -1
    async with reader(settings.bootstrap_servers) as consumer:
        for number in range(6):
            partition = TopicPartition(topic, number)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            for _ in range(end):
                newest = max(newest, decode((await consumer.getone(partition)).value).block)
    return newest
