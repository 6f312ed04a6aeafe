"""Bytes changed at random, on every level of a transaction: each gets a code, and the channel goes on."""

from collections.abc import Iterator

import pytest
from fabric_protos.common import common_pb2
from hlf_devnet.orderer import BroadcastRefused, Orderer
from hlf_devnet.simulator import Simulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.devnet_channel import CHAINCODE, CHANNEL, Channel, Envelope

OF_A = "_implicit_org_HospitalA"

changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=6)), min_size=1, max_size=3)
levels = st.sampled_from(["envelope", "payload", "transaction", "results", "channel header", "creator", "private"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channel]:
    channel = Channel.create(tmp_path_factory.mktemp("mutations"))
    channel.commit(*(channel.put(f"k{number}") for number in range(60)))
    yield channel
    channel.close()


@pytest.fixture(scope="module")
def orderer(shared: Channel) -> Iterator[Orderer]:
    orderer = Orderer.open(shared.folder / "orderer", CHANNEL, shared.orderer_signer, shared.bundles, shared.genesis)
    yield orderer
    orderer.close()


def everything(simulator: Simulator) -> None:
    simulator.get_state(CHAINCODE, "k1")
    rows = simulator.range(CHAINCODE, "k", "l")
    while rows.next() is not None:
        pass
    simulator.put_state(CHAINCODE, "written", b"value")
    simulator.put_state_metadata(CHAINCODE, "written", {"label": b"x"})
    simulator.get_private_hash(CHAINCODE, OF_A, "absent")
    simulator.put_private(CHAINCODE, OF_A, "p", b"secret")


def changed(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Each edit: where, how many bytes go, what comes."""
    for place, length, new in edits:
        start = int(place * len(content))
        content = content[:start] + new + content[start + length :]
    return content


def mutated(envelope: Envelope, level: str, edits: list[tuple[float, int, bytes]]) -> bytes:
    if level == "envelope":
        return changed(envelope.encode(), edits)
    if level == "payload":
        return envelope.signed(changed(common_pb2.Envelope.FromString(envelope.encode()).payload, edits))
    if level == "results":
        return envelope.with_(results=changed(envelope.results, edits)).encode()
    header = envelope.headers()
    data = envelope.transaction(header)
    if level == "transaction":
        data = changed(data, edits)
    elif level == "channel header":
        header.channel_header = changed(header.channel_header, edits)
    elif level == "creator":
        creator = changed(envelope.creator.serialized, edits)
        header.signature_header = common_pb2.SignatureHeader(creator=creator, nonce=envelope.nonce).SerializeToString()
    return envelope.signed(common_pb2.Payload(header=header, data=data).SerializeToString())


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(level=levels, edits=changes)
def test_a_changed_transaction_gets_a_code_and_harms_nothing(
    shared: Channel, orderer: Orderer, level: str, edits: list[tuple[float, int, bytes]]
) -> None:
    envelope = shared.endorse(everything)
    content = mutated(envelope, level, edits)
    assert envelope.private is not None
    private = changed(envelope.private, edits) if level == "private" else envelope.private
    try:
        orderer._checked(content)
    except BroadcastRefused as refused:
        assert refused.status in (400, 403, 404)
    validated = shared.commit_block(shared.block([content]), {0: private})
    assert len(validated.transactions) == 1
    assert shared.a.commit_hash == shared.ledgers["HospitalB"].commit_hash
