"""Private values: who keeps them, what the others know, and what a purge leaves."""

from functools import partial
from pathlib import Path

import pytest
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from hlf_devnet import rwset
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.rwset import key_hash
from hlf_devnet.simulator import SimulationError, Simulator
from support.devnet_channel import CHAINCODE, CHANNEL, Channel

A, B = "HospitalA", "HospitalB"
OF_A = "_implicit_org_HospitalA"
SECRET = b"only for HospitalA 7f3a"


def put(channel: Channel, key: str = "p", value: bytes = SECRET) -> list[str]:
    return channel.commit(channel.endorse(lambda simulator: simulator.put_private(CHAINCODE, OF_A, key, value), [A]))


def purge(channel: Channel, key: str = "p") -> list[str]:
    return channel.commit(channel.endorse(lambda simulator: simulator.purge_private(CHAINCODE, OF_A, key), [A]))


def read(ledger: PeerLedger, key: str = "p") -> bytes:
    simulator = Simulator(ledger, "read")
    try:
        return simulator.get_private(CHAINCODE, OF_A, key)
    finally:
        simulator.close()


def read_hash(ledger: PeerLedger, key: str = "p") -> bytes:
    simulator = Simulator(ledger, "read")
    try:
        return simulator.get_private_hash(CHAINCODE, OF_A, key)
    finally:
        simulator.close()


def kept(ledger: PeerLedger, number: int) -> dict[int, list[tuple[str, bytes]]]:
    """Transaction index → keys and values that the peer still has of that block."""
    found: dict[int, list[tuple[str, bytes]]] = {}
    for index, message in ledger.private_data(number).items():
        for _, _, content in rwset.private_writes(message.SerializeToString()):
            writes = kv_rwset_pb2.KVRWSet.FromString(content).writes
            found.setdefault(index, []).extend((write.key, write.value) for write in writes)
    return found


def files_of(ledger: PeerLedger) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(ledger.folder.iterdir()))


def test_a_member_keeps_the_value_and_others_its_hash(channel: Channel) -> None:
    assert put(channel) == ["VALID"]
    a, b = channel.ledgers[A], channel.ledgers[B]
    assert read(a) == SECRET
    assert read_hash(a) == read_hash(b) != b""
    assert kept(a, 2) == {0: [("p", SECRET)]}
    assert kept(b, 2) == {}
    with pytest.raises(SimulationError, match="private data matching public hash version is not available"):
        read(b)
    assert SECRET not in files_of(b)


def test_a_value_that_is_not_the_endorsed_one_is_left_out(channel: Channel) -> None:
    envelope = channel.endorse(lambda simulator: simulator.put_private(CHAINCODE, OF_A, "p", SECRET), [A])
    other = channel.simulate(lambda simulator: simulator.put_private(CHAINCODE, OF_A, "p", b"forged"))
    assert channel.commit(envelope.with_(private=other.private)) == ["VALID"]
    assert kept(channel.a, 2) == {}
    with pytest.raises(SimulationError, match="not available"):
        read(channel.a)


def test_a_lost_value_is_missed_until_the_next_write(channel: Channel) -> None:
    envelope = channel.endorse(lambda simulator: simulator.put_private(CHAINCODE, OF_A, "p", SECRET), [A])
    assert channel.commit(envelope.with_(private=None)) == ["VALID"]
    with pytest.raises(SimulationError, match=r"Public hash version = \{BlockNum: 2, TxNum: 0\}, .* = <nil>"):
        read(channel.a)
    put(channel)
    assert read(channel.a) == SECRET


def test_an_invalid_transaction_writes_nothing_private(channel: Channel) -> None:
    envelope = channel.endorse(lambda simulator: simulator.put_private(CHAINCODE, OF_A, "p", SECRET), [B])
    assert channel.commit(envelope) == ["ENDORSEMENT_POLICY_FAILURE"]
    assert read(channel.a) == b""
    assert kept(channel.a, 2) == {}


def test_a_delete_removes_the_value_and_leaves_its_history(channel: Channel) -> None:
    put(channel)
    channel.commit(channel.endorse(lambda simulator: simulator.delete_private(CHAINCODE, OF_A, "p"), [A]))
    assert read(channel.a) == b""
    assert kept(channel.a, 2) == {0: [("p", SECRET)]}
    assert kept(channel.a, 3) == {0: [("p", b"")]}


def test_a_purge_removes_value_history_and_hash(channel: Channel) -> None:
    put(channel)
    put(channel, value=SECRET + b" again")
    put(channel, key="other", value=b"stays")
    assert purge(channel) == ["VALID"]
    for ledger in channel.ledgers.values():
        assert read_hash(ledger) == b""
    assert read(channel.a) == b""
    assert read(channel.a, "other") == b"stays"
    assert [kept(channel.a, number) for number in (2, 3, 4, 5)] == [
        {0: []},
        {0: []},
        {0: [("other", b"stays")]},
        {0: []},
    ]


def test_a_purge_leaves_no_byte_of_the_value_in_the_folder(channel: Channel) -> None:
    put(channel)
    assert SECRET in files_of(channel.a)
    purge(channel)
    assert SECRET not in files_of(channel.a)


def test_the_bytes_go_with_the_next_block_when_somebody_still_reads(channel: Channel) -> None:
    put(channel)
    reader = channel.a.snapshot()
    purge(channel)
    assert SECRET in files_of(channel.a)
    reader.close()
    channel.commit(channel.put("k"))
    assert SECRET not in files_of(channel.a)


def test_a_value_written_after_a_purge_stays(channel: Channel) -> None:
    put(channel)
    purge(channel)
    put(channel, value=b"new")
    assert read(channel.a) == b"new"
    assert kept(channel.a, 4) == {0: [("p", b"new")]}
    reopened = channel.reopen()
    assert read(reopened) == b"new"


@pytest.mark.parametrize("order", [("put", "purge", "put"), ("put", "purge"), ("purge", "put")])
def test_puts_and_purges_of_one_block_count_in_order(channel: Channel, order: tuple[str, ...]) -> None:
    def write(simulator: Simulator, *, action: str, index: int) -> None:
        if action == "put":
            simulator.put_private(CHAINCODE, OF_A, "p", b"value %d" % index)
        else:
            simulator.purge_private(CHAINCODE, OF_A, "p")

    put(channel, value=b"before")
    transactions = [
        channel.endorse(partial(write, action=action, index=index), [A]) for index, action in enumerate(order)
    ]
    assert channel.commit(*transactions) == ["VALID"] * len(order)
    last = len(order) - 1
    expected = b"value %d" % last if order[-1] == "put" else b""
    assert read(channel.a) == expected
    assert (read_hash(channel.ledgers[B]) != b"") == bool(expected)
    left = [value for number in (2, 3) for writes in kept(channel.a, number).values() for _, value in writes]
    assert left == ([expected] if expected else [])


def test_a_purge_whose_private_part_was_lost_still_purges(channel: Channel) -> None:
    put(channel)
    envelope = channel.endorse(lambda simulator: simulator.purge_private(CHAINCODE, OF_A, "p"), [A])
    assert channel.commit(envelope.with_(private=None)) == ["VALID"]
    assert read(channel.a) == b""
    assert kept(channel.a, 2) == {0: []}


def test_a_change_of_metadata_keeps_the_value_readable(channel: Channel) -> None:
    put(channel)
    channel.commit(
        channel.endorse(lambda simulator: simulator.put_private_metadata(CHAINCODE, OF_A, "p", {"label": b"x"}), [A])
    )
    assert read(channel.a) == SECRET
    with channel.a.snapshot() as snapshot:
        found = snapshot.get_hash(CHAINCODE, OF_A, key_hash("p"))
        assert found is not None
        assert found.version == (3, 0)


def test_private_ranges_are_read_in_order_of_keys(channel: Channel) -> None:
    for key in ("b", "a", "d", "c"):
        put(channel, key, key.encode())
    simulator = Simulator(channel.a, "range")
    rows = simulator.private_range(CHAINCODE, OF_A, "b", "d")
    assert [rows.next(), rows.next(), rows.next()] == [("b", b"b"), ("c", b"c"), None]
    simulator.close()


def test_an_unknown_collection_is_refused(channel: Channel) -> None:
    simulator = Simulator(channel.a, "unknown")
    with pytest.raises(SimulationError, match=r"collection \[_implicit_org_C\] not defined"):
        simulator.put_private(CHAINCODE, "_implicit_org_C", "k", b"v")
    simulator.close()


def test_a_ledger_that_comes_late_gets_hashes_and_its_private_values(channel: Channel, tmp_path: Path) -> None:
    envelope = channel.endorse(lambda simulator: simulator.put_private(CHAINCODE, OF_A, "p", SECRET), [A])
    channel.commit(envelope)
    late = PeerLedger.open(tmp_path, A, CHANNEL)
    channel.validator.register(channel.a)
    for number in range(channel.a.height):
        validated = channel.validator.validate(channel.a.block_bytes(number), late)
        assert envelope.private is not None
        late.commit(validated, {0: envelope.private} if number == 2 else {})
    assert read(late) == SECRET
    assert late.commit_hash == channel.a.commit_hash
    late.close()
