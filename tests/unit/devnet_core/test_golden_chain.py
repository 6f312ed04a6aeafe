"""What official peers recorded, done again by devnet: the same bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from hlf.channel_config import config_of
from hlf_devnet import rwset
from hlf_devnet.access import AccessControl
from hlf_devnet.block_cutter import BatchSettings
from hlf_devnet.blockstore import data_hash, header_hash
from hlf_devnet.bundle import Bundles
from hlf_devnet.chaincode_requests import TransactionContext
from hlf_devnet.chaincodes import Chaincodes
from hlf_devnet.genesis import ChannelOrganization, ChannelSettings, genesis_block
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.lifecycle_scc import LifecycleScc
from hlf_devnet.msp import MspRegistry
from hlf_devnet.packages import PackageStore
from hlf_devnet.peer import Peer
from hlf_devnet.simulator import Simulator
from hlf_devnet.validator import Validator
from support.golden_chain import NAMESPACE, TRANSIENTS, Kv, as_ordered, blocks, rebuilt, transactions

CHANNEL = "golden"
COLLECTION = "_implicit_org_HospitalA"


class Replay:
    def __init__(self, folder: Path) -> None:
        self.blocks = blocks()
        self.validator = Validator(CHANNEL, Bundles({}))
        self.ledger = PeerLedger.open(folder, "HospitalA", CHANNEL)
        self._transients = iter(TRANSIENTS)

    def simulated(self, number: int) -> list[tuple[bytes, bytes, bytes | None]]:
        """For each `kv` transaction of the block: recorded results, ours, our private part."""
        found = []
        for recorded in transactions(self.blocks[number]):
            if recorded.chaincode == NAMESPACE:
                simulator = Simulator(self.ledger, "simulated")
                simulator.enter(NAMESPACE)
                Kv(simulator, self._transients).run(recorded.function, *recorded.arguments)
                result = simulator.finish()
                found.append((recorded.results, result.public, result.private))
        return found

    def commit(self, number: int, private: dict[int, bytes]) -> bytes:
        validated = self.validator.validate(as_ordered(self.blocks[number]), self.ledger)
        self.ledger.commit(validated, private)
        return validated.raw


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    replay = Replay(tmp_path)
    yield replay
    replay.ledger.close()


def test_every_block_is_stored_as_official_peers_store_it(replay: Replay) -> None:
    for number, recorded in enumerate(replay.blocks):
        assert replay.commit(number, {}) == recorded, f"flags or commit hash of block {number} differ"


def test_every_transaction_simulates_to_the_recorded_bytes(replay: Replay) -> None:
    for number in range(len(replay.blocks)):
        private = {}
        sent_twice = number == 43
        for index, (recorded, simulated, pvt) in enumerate(replay.simulated(number)):
            assert simulated == recorded or (sent_twice and index == 1), f"transaction {index} of block {number}"
            if pvt is not None:
                private[index] = pvt
        replay.commit(number, private)


def test_approvals_and_commits_simulate_to_the_recorded_bytes(replay: Replay, tmp_path: Path) -> None:
    """Those that hospital A's peer endorsed."""
    ledger, bundles = replay.ledger, Bundles({})
    access = AccessControl(CHANNEL, lambda: bundles.of(ledger.config))
    chaincodes: Chaincodes[TransactionContext] = Chaincodes(ledger, PackageStore.open(tmp_path / "packages"), {})
    nobody: Any = None
    peer = Peer("HospitalA", "", nobody, access, MspRegistry({}), ledger, nobody, chaincodes)
    scc, found = LifecycleScc(peer), []
    for number in range(4):
        for recorded in transactions(replay.blocks[number]):
            if number != 2:  # that is hospital B's approval
                simulator = Simulator(ledger, "simulated")
                simulator.enter_system("_lifecycle")
                scc.invoke(recorded.function, recorded.inputs[0], simulator)
                assert simulator.finish().public == recorded.results
                found.append(recorded.function)
        replay.commit(number, {})
    assert found == ["ApproveChaincodeDefinitionForMyOrg", "CommitChaincodeDefinition"]


def test_private_data_replays_without_what_was_purged(replay: Replay) -> None:
    for number in range(len(replay.blocks)):
        private = {index: pvt for index, (_, _, pvt) in enumerate(replay.simulated(number)) if pvt is not None}
        replay.commit(number, private)
    writes = {}
    for number in range(len(replay.blocks)):
        for index, message in replay.ledger.private_data(number).items():
            for namespace, collection, content in rwset.private_writes(message.SerializeToString()):
                found = [(write.key, write.value) for write in kv_rwset_pb2.KVRWSet.FromString(content).writes]
                writes[number, index] = (namespace, collection, found)
    assert writes == {
        (19, 0): (NAMESPACE, COLLECTION, []),
        (20, 0): (NAMESPACE, COLLECTION, [("p2", b"secret two")]),
        (24, 0): (NAMESPACE, COLLECTION, []),
        (25, 0): (NAMESPACE, COLLECTION, [("p2", b"")]),
        (26, 0): (NAMESPACE, COLLECTION, []),
        (28, 0): (NAMESPACE, COLLECTION, [("p4", b"mine alone")]),
    }


def test_read_write_sets_are_encoded_as_they_were_decoded() -> None:
    for block in blocks():
        for recorded in transactions(block):
            assert rebuilt(recorded.results) == recorded.results


def test_the_chain_of_hashes_is_the_recorded_one() -> None:
    previous = b""
    for block in map(common_pb2.Block.FromString, blocks()):
        assert block.header.previous_hash == previous
        assert block.header.data_hash == data_hash(block.data.data)
        previous = header_hash(block.header)


def test_a_genesis_block_is_what_configtxgen_makes() -> None:
    recorded = config_of(blocks()[0])
    msps = MspRegistry.from_config(recorded)
    ours = config_of(
        genesis_block(
            ChannelSettings(
                channel=CHANNEL,
                organizations=[
                    ChannelOrganization(msps.msp("HospitalA"), ("127.0.0.1", 17051)),
                    ChannelOrganization(msps.msp("HospitalB"), ("127.0.0.1", 17061)),
                ],
                orderer=msps.msp("Orderer"),
                orderer_address="127.0.0.1:17050",
                orderer_certificate=b"",
                batch=BatchSettings(50, 24, 2 * 1024 * 1024),
            )
        )
    )
    assert ours.channel_group.groups["Application"].policies.pop("AllEndorsement") is not None
    for config in (ours, recorded):
        config.channel_group.groups["Orderer"].values.pop("ConsensusType")  # holds the certificate of the consenter
    assert ours == recorded
