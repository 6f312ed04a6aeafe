"""Off-line proof of a transaction, from blocks of official peers; and every way in which evidence can be altered."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.common import common_pb2
from hlf.blocks import block_data_hash
from hlf.evidence import Evidence, EvidenceInvalid, decode, prove

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.block").read_bytes()


GENESIS = golden("genesis")
CHANNEL = decode(GENESIS).header_hash
EVIDENCE = Evidence((GENESIS,), golden("write"))
TRANSACTION = decode(EVIDENCE.block).transactions[0].transaction_id


def test_an_official_block_proves_who_made_a_transaction_and_whose_peers_endorsed_it() -> None:
    proven = prove(EVIDENCE, CHANNEL, TRANSACTION)
    assert proven.block.number == 10
    assert proven.creator.msp_id == "HospitalA"
    assert proven.endorsing_organizations == {"HospitalA", "HospitalB"}
    assert [write.key for write in proven.transaction.writes if write.namespace != "_lifecycle"]


@pytest.mark.parametrize("name", ["delete", "event", "key-policy", "range", "lifecycle-commit"])
def test_any_valid_official_transaction_can_be_proven(name: str) -> None:
    evidence = Evidence((GENESIS,), golden(name))
    transaction = decode(evidence.block).transactions[0].transaction_id
    assert prove(evidence, CHANNEL, transaction).endorsing_organizations == {"HospitalA", "HospitalB"}


def test_an_invalid_transaction_is_not_proven_by_the_block_that_holds_it() -> None:
    evidence = Evidence((GENESIS,), golden("conflict"))
    with pytest.raises(EvidenceInvalid, match="MVCC_READ_CONFLICT"):
        prove(evidence, CHANNEL, decode(evidence.block).transactions[1].transaction_id)


def altered(change: Callable[[Any], None]) -> Evidence:
    """The evidence with a changed block; its data hash is made to fit again, as a forger would."""
    block = common_pb2.Block.FromString(EVIDENCE.block)
    change(block)
    block.header.data_hash = block_data_hash(block.data.data)
    return replace(EVIDENCE, block=block.SerializeToString())


def in_payload(change: Callable[[bytes], bytes]) -> Callable[[Any], None]:
    def alter(block: Any) -> None:
        envelope = common_pb2.Envelope.FromString(block.data.data[0])
        envelope.payload = change(envelope.payload)
        block.data.data[0] = envelope.SerializeToString()

    return alter


def number(block: Any) -> None:
    block.header.number += 1


def previous(block: Any) -> None:
    block.header.previous_hash = bytes(32)


def signatures(block: Any) -> None:
    block.metadata.metadata[common_pb2.SIGNATURES] = common_pb2.Block.FromString(golden("delete")).metadata.metadata[
        common_pb2.SIGNATURES
    ]


def no_signatures(block: Any) -> None:
    block.metadata.metadata[common_pb2.SIGNATURES] = b""


def marked_invalid(block: Any) -> None:
    block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b"\x0b"


def no_verdict(block: Any) -> None:
    block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b""


def another_transaction(block: Any) -> None:
    block.data.data[0] = common_pb2.Block.FromString(golden("delete")).data.data[0]


def last_in(block: Any) -> None:
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
    value = common_pb2.OrdererBlockMetadata.FromString(metadata.value)
    value.last_config.index = 7
    metadata.value = value.SerializeToString()
    block.metadata.metadata[common_pb2.SIGNATURES] = metadata.SerializeToString()


@pytest.mark.parametrize(
    "evidence",
    [
        altered(number),
        altered(previous),
        altered(signatures),
        altered(no_signatures),
        altered(marked_invalid),
        altered(no_verdict),
        altered(another_transaction),
        altered(last_in),
        altered(in_payload(lambda payload: payload.replace(b"HospitalB", b"HospitalA"))),
        altered(in_payload(lambda payload: payload[:-1] + bytes((payload[-1] ^ 1,)))),
        replace(EVIDENCE, configurations=()),
        replace(EVIDENCE, configurations=(EVIDENCE.block,)),
        replace(EVIDENCE, configurations=(GENESIS, GENESIS)),
        replace(EVIDENCE, configurations=(GENESIS, golden("delete"))),
        replace(EVIDENCE, block=EVIDENCE.block[:-7]),
        replace(EVIDENCE, block=b"no block"),
        replace(EVIDENCE, block=GENESIS),
    ],
)
def test_altered_evidence_is_refused(evidence: Evidence) -> None:
    with pytest.raises(EvidenceInvalid):
        prove(evidence, CHANNEL, TRANSACTION)


@pytest.mark.parametrize("position", range(0, len(EVIDENCE.block), 97))
def test_no_byte_that_is_signed_can_be_flipped(position: int) -> None:
    """A flip may hit a byte that says nothing, such as the commit hash of the peer; what is proven stays the same."""
    flipped = bytearray(EVIDENCE.block)
    flipped[position] ^= 1
    try:
        proven = prove(replace(EVIDENCE, block=bytes(flipped)), CHANNEL, TRANSACTION)
    except EvidenceInvalid:
        return
    original = prove(EVIDENCE, CHANNEL, TRANSACTION)
    assert (proven.transaction, proven.creator, proven.block) == (
        original.transaction,
        original.creator,
        original.block,
    )


def test_evidence_of_another_channel_or_for_another_transaction_is_refused() -> None:
    with pytest.raises(EvidenceInvalid, match="another channel"):
        prove(EVIDENCE, bytes(32), TRANSACTION)
    with pytest.raises(EvidenceInvalid, match="does not hold"):
        prove(EVIDENCE, CHANNEL, "00" * 32)
