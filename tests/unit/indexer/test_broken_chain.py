"""Blocks with one byte changed: golden ones delivered over Fabric's protocol, and those in a peer's own file."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

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
from hlf.commits import CommitTracker
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from support import golden_chain
from support.devnet import MSP_IDS, Network
from support.hlf_blocks import new_member
from support.hlf_peer import gateway_to, scripted_peer
from support.networks import running_network

CHANGED_BLOCK = 3
VALUE, OTHER_VALUE = "a value to be found in a file", "A value to be found in a file"
BLOCKS_IN_MEMORY = 16
"""devnet delivers its newest ones without reading them again."""


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
    database: AsyncEngine, settings: KafkaSettings, change: Callable[[common_pb2.Block], None]
) -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.blocks = [common_pb2.Block.FromString(each) for each in golden_chain.blocks()]
        change(peer.blocks[CHANGED_BLOCK])
        blocks = PeerBlocks(gateway, new_member(), "golden")
        block_reader = BlockReader("golden", golden_chain.NAMESPACE, "Org1MSP")
        await _relay_until_halted(Relay(database, _kafka(settings), "golden", blocks.after, block_reader, blocks.one))
    assert await _last_marked(settings) < CHANGED_BLOCK


@pytest.mark.parametrize("kind", ["devnet", "fabric"])
async def test_a_byte_flipped_in_a_peers_own_file_halts_the_relay(
    database: AsyncEngine, settings: KafkaSettings, kind: str, tmp_path: Path
) -> None:
    async with running_network(kind, tmp_path) as network, network.gateway("HospitalA") as gateway:
        member = network.member("HospitalA")
        contract = gateway.contract(member, network.channel, network.chaincode)
        async with CommitTracker(gateway, member, network.channel) as tracker:
            first, *_ = [
                await tracker.settle(
                    await contract.propose("put", str(number), VALUE, endorsing_organizations=MSP_IDS).endorse()
                )
                for number in range(BLOCKS_IN_MEMORY + 1)
            ]
        await (_flip_in_devnet if kind == "devnet" else _flip_in_fabric)(network, first.block_number)
        blocks = PeerBlocks(gateway, member, network.channel)
        block_reader = BlockReader(network.channel, network.chaincode, "HospitalA")
        await _relay_until_halted(
            Relay(database, _kafka(settings), network.channel, blocks.after, block_reader, blocks.one)
        )
    assert await _last_marked(settings) < first.block_number


async def _flip_in_devnet(network: Network, number: int) -> None:
    """While it runs: it would not start with a changed chain. Its own digest of what it stored is made to fit."""
    [ledger] = network.folder.glob("**/HospitalA/ledger.sqlite3")
    with closing(sqlite3.connect(ledger)) as connection, connection:
        [content] = connection.execute("SELECT content FROM block WHERE number = ?", (number,)).fetchone()
        changed = content.replace(VALUE.encode(), OTHER_VALUE.encode(), 1)
        row = (hashlib.sha256(changed).digest(), changed, number)
        connection.execute("UPDATE block SET digest = ?, content = ? WHERE number = ?", row)


async def _flip_in_fabric(network: Network, _number: int) -> None:
    """While its peer is down, which would go on delivering what it has in memory."""
    await network.stop_peer("HospitalA")
    [blocks] = network.folder.glob("data-HospitalA/**/blockfile_000000")
    blocks.write_bytes(blocks.read_bytes().replace(VALUE.encode(), OTHER_VALUE.encode(), 1))
    await network.start_peer("HospitalA")


def _kafka(settings: KafkaSettings) -> Kafka:
    return Kafka(settings.bootstrap_servers, Topics(settings.topic_prefix))


async def _relay_until_halted(relay: Relay) -> None:
    """And the alarm is told once."""
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
