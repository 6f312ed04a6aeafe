"""Golden blocks were taken from official 3.1.5 peers: two organizations, one orderer, a chaincode on the Node shim."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.common import common_pb2, policies_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import events_pb2
from hlf import policies
from hlf.blocks import (
    NOT_VALIDATED,
    Block,
    Read,
    Write,
    block_header_bytes,
    block_header_hash,
    composite_key,
    decode_block,
    split_composite_key,
)
from hlf.crypto import sha256
from hypothesis import given
from hypothesis import strategies as st
from support.hlf_blocks import Chain, new_envelope, new_member

GOLDEN = Path(__file__).parent / "golden"
IMPLICIT_A = "_implicit_org_HospitalA"
MEMBER = new_member()


def golden(name: str) -> Block:
    return decode_block(common_pb2.Block.FromString((GOLDEN / f"{name}.block").read_bytes()))


def golden_with_private_data(name: str) -> Block:
    both = events_pb2.BlockAndPrivateData.FromString((GOLDEN / f"{name}.member.pb").read_bytes())
    return decode_block(both.block, both.private_data_map)


def test_an_official_write() -> None:
    [transaction] = golden("write").transactions
    assert transaction.is_valid
    assert (transaction.type, transaction.channel, transaction.chaincode) == (3, "care", "kv")
    assert transaction.args == (b"put", b"golden", b"value")
    assert transaction.writes == (Write("kv", "golden", b"value", is_delete=False),)
    assert transaction.creator.msp_id == "HospitalA"
    assert transaction.creator.common_name == "User1@a.care.example"
    assert [endorser.msp_id for endorser in transaction.endorsers] == ["HospitalA", "HospitalB"]
    assert [endorser.common_name for endorser in transaction.endorsers] == [
        "peer0.a.care.example",
        "peer0.b.care.example",
    ]
    assert transaction.timestamp.tzinfo is UTC
    assert (transaction.response_status, transaction.response_payload) == (200, b"ok")
    assert Read("_lifecycle", "namespaces/fields/kv/Sequence", (3, 0)) in transaction.reads


def test_an_official_delete() -> None:
    [transaction] = golden("delete").transactions
    assert transaction.writes == (Write("kv", "golden", b"", is_delete=True),)


def test_official_blocks_link_by_hash() -> None:
    assert golden("delete").previous_hash == golden("write").header_hash


def test_official_blocks_encode_to_the_same_bytes() -> None:
    for file in GOLDEN.glob("*.block"):
        assert golden(file.stem).raw == file.read_bytes()


def test_an_official_genesis_block_holds_a_configuration() -> None:
    block = golden("genesis")
    assert (block.number, block.previous_hash) == (0, b"")
    [transaction] = block.transactions
    assert (transaction.type, transaction.chaincode, transaction.writes) == (1, "", ())
    assert transaction.args == ()


def test_an_official_private_write_for_a_member() -> None:
    [transaction] = golden_with_private_data("private").transactions
    [private] = transaction.private_writes
    assert (private.namespace, private.collection, private.key) == ("kv", IMPLICIT_A, "golden-kept")
    assert (private.value, private.is_delete, private.is_purge) == (b"sealed", False, False)
    [hashed] = transaction.collection_writes
    assert hashed.is_of("golden-kept")
    assert hashed.value_hash == sha256(b"sealed")
    assert transaction.missing_private_writes == ()
    assert transaction.writes == (Write("kv", "golden-kept", b"public", is_delete=False),)
    assert b"sealed" not in transaction.proposal_payload


def test_an_official_private_delete_for_a_member() -> None:
    [transaction] = golden_with_private_data("private-delete").transactions
    [private] = transaction.private_writes
    assert (private.key, private.value, private.is_delete, private.is_purge) == ("golden-kept", None, True, False)


def test_an_official_purge_shows_in_the_hashes_only() -> None:
    [transaction] = golden_with_private_data("purge").transactions
    [hashed] = transaction.collection_writes
    assert (hashed.is_of("golden-secret"), hashed.is_purge, hashed.is_delete) == (True, True, True)
    assert transaction.private_writes == ()
    assert transaction.missing_private_writes == (hashed,)


def test_an_official_key_level_policy() -> None:
    [transaction] = golden("key-policy").transactions
    [metadata] = transaction.metadata_writes
    assert (metadata.namespace, metadata.collection, metadata.key) == ("kv", "", "golden-policy")
    [(name, value)] = metadata.entries
    assert name == "VALIDATION_PARAMETER"
    assert policies.describe(policies_pb2.SignaturePolicyEnvelope.FromString(value).SerializeToString())


def test_an_official_event() -> None:
    [transaction] = golden("event").transactions
    assert transaction.event is not None
    assert (transaction.event.chaincode, transaction.event.name) == ("kv", "golden-event")
    assert transaction.event.payload == b"payload"


def test_official_verdicts() -> None:
    conflict = [transaction.validation_name for transaction in golden("conflict").transactions]
    assert sorted(conflict) == ["MVCC_READ_CONFLICT", "VALID"]
    [failed] = golden("policy-failure").transactions
    assert failed.validation_name == "ENDORSEMENT_POLICY_FAILURE"
    assert [endorser.msp_id for endorser in failed.endorsers] == ["HospitalA"]


def test_a_block_that_no_peer_validated_has_no_valid_transaction() -> None:
    message = common_pb2.Block.FromString((GOLDEN / "write.block").read_bytes())
    message.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b""
    [transaction] = decode_block(message).transactions
    assert transaction.validation_code == NOT_VALIDATED
    assert not transaction.is_valid


def test_changed_data_is_refused() -> None:
    message = common_pb2.Block.FromString((GOLDEN / "write.block").read_bytes())
    message.data.data[0] = message.data.data[0].replace(b"golden", b"g0lden")
    with pytest.raises(ValueError, match="does not hold the data"):
        decode_block(message)


def test_a_filter_of_another_length_is_refused() -> None:
    block = Chain().add([new_envelope(MEMBER)[1]], codes=b"\x00\x00")
    with pytest.raises(ValueError, match="1 transactions and 2 validation codes"):
        decode_block(block)


@pytest.mark.parametrize("envelope", [b"", b"\xff\xff", common_pb2.Envelope(payload=b"\xff").SerializeToString()])
def test_an_unreadable_invalid_transaction_does_not_stop_a_reader(envelope: bytes) -> None:
    transaction_id, good = new_envelope(MEMBER, {"k": b"v"})
    block = decode_block(Chain().add([envelope, good], codes=b"\x01\x00"))
    assert not block.transactions[0].is_valid
    assert block.transactions[1].transaction_id == transaction_id


def test_an_unreadable_valid_transaction_stops_a_reader() -> None:
    with pytest.raises(ValueError, match="valid transaction 0 cannot be read"):
        decode_block(Chain().add([b"\xff\xff"]))


@given(st.binary(max_size=200))
def test_no_envelope_breaks_the_decoder(envelope: bytes) -> None:
    [transaction] = decode_block(Chain().add([envelope], codes=b"\x01")).transactions
    assert not transaction.is_valid


@pytest.mark.parametrize("seconds", [-(2**62), 2**62])
def test_a_timestamp_that_no_datetime_can_hold_is_cut(seconds: int) -> None:
    """Peers do not check timestamps of transactions, so one member could stop every reader with one."""
    envelope = common_pb2.Envelope.FromString(new_envelope(MEMBER)[1])
    payload = common_pb2.Payload.FromString(envelope.payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    header.timestamp.seconds = seconds
    payload.header.channel_header = header.SerializeToString()
    changed = common_pb2.Envelope(payload=payload.SerializeToString()).SerializeToString()
    [transaction] = decode_block(Chain().add([changed])).transactions
    edge = datetime.min if seconds < 0 else datetime.max
    assert transaction.timestamp == edge.replace(tzinfo=UTC)


def private_data(key: str, value: bytes, *, is_delete: bool = False, collection: str = "c") -> dict[int, Any]:
    write = kv_rwset_pb2.KVWrite(key=key, value=value, is_delete=is_delete)
    rwset = kv_rwset_pb2.KVRWSet(writes=[write]).SerializeToString()
    part = rwset_pb2.CollectionPvtReadWriteSet(collection_name=collection, rwset=rwset)
    namespace = rwset_pb2.NsPvtReadWriteSet(namespace="kv", collection_pvt_rwset=[part])
    return {0: rwset_pb2.TxPvtReadWriteSet(ns_pvt_rwset=[namespace])}


@pytest.mark.parametrize(
    "given_data",
    [
        private_data("secret", b"other"),
        private_data("other", b"value"),
        private_data("secret", b"", is_delete=True),
        private_data("secret", b"value", collection="d"),
    ],
)
def test_private_data_that_does_not_match_its_hashes_is_refused(given_data: dict[int, Any]) -> None:
    block = Chain().add([new_envelope(MEMBER, private={"secret": b"value"})[1]])
    with pytest.raises(ValueError, match="does not match the hashes"):
        decode_block(block, given_data)
    [transaction] = decode_block(block, private_data("secret", b"value")).transactions
    assert transaction.private_writes[0].value == b"value"


@given(st.integers(0, 2**64 - 1), st.binary(max_size=300), st.binary(max_size=300))
def test_header_bytes_are_der(number: int, previous_hash: bytes, data_hash: bytes) -> None:
    assert read_der(block_header_bytes(number, previous_hash, data_hash)) == [number, previous_hash, data_hash]


def read_der(encoded: bytes) -> list[int | bytes]:
    """A reader written apart from the encoder."""
    tag, content, rest = next_der(encoded)
    assert (tag, rest) == (0x30, b"")
    values: list[int | bytes] = []
    while content:
        tag, value, content = next_der(content)
        is_minimal = len(value) == 1 or not (value[:1] == b"\x00" and value[1] < 0x80)
        assert tag in (2, 4) and (tag == 4 or is_minimal)
        values.append(int.from_bytes(value, "big", signed=True) if tag == 2 else value)
    return values


def next_der(encoded: bytes) -> tuple[int, bytes, bytes]:
    tag, length, start = encoded[0], encoded[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(encoded[2:start], "big")
        assert length >= 0x80
    return tag, encoded[start : start + length], encoded[start + length :]


def test_the_header_hash_covers_every_part() -> None:
    hashes = {block_header_hash(n, p, d) for n in (1, 2) for p in (b"a", b"b") for d in (b"c", b"d")}
    assert len(hashes) == 8


parts = st.text(st.characters(exclude_characters="\x00\U0010ffff", exclude_categories=["Cs"]))


@given(parts, st.lists(parts))
def test_a_composite_key_splits_into_its_parts(object_type: str, attributes: list[str]) -> None:
    assert split_composite_key(composite_key(object_type, attributes)) == (object_type, tuple(attributes))


@pytest.mark.parametrize("part", ["a\x00b", "\U0010ffff", "\ud800"])
def test_parts_that_would_blur_a_composite_key_are_refused(part: str) -> None:
    with pytest.raises(ValueError):
        composite_key("note", [part])


@pytest.mark.parametrize("key", ["", "\x00", "plain", "\x00open", "closed\x00"])
def test_other_keys_are_no_composite_keys(key: str) -> None:
    with pytest.raises(ValueError, match="not a composite key"):
        split_composite_key(key)
