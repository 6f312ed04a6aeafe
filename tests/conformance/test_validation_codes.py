"""Transactions that an orderer takes and a committer judges: the same code from devnet as from official peers.

They are made by hand, endorsed in the name of peers whose certificates the hospitals' authorities issue here. What
an orderer refuses can have no code: `test_callers.py` has that. Each stands alone in its block.
"""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import chaincode_event_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fuzz.messages import Bench, bench_on, new_key
from hlf.crypto import sha256
from support import raw_calls as raw
from support.devnet import MSP_IDS, Network
from support.devnet_channel import Envelope
from support.transactions import Client

CHAINCODE = "conformance"


@dataclass
class Hand:
    """Makes transactions of hospital A's client and submits them."""

    bench: Bench
    calls: raw.Calls

    def put(self, key: str = "", **changes: Any) -> Envelope:
        return self.writing(
            kv_rwset_pb2.KVRWSet(writes=[kv_rwset_pb2.KVWrite(key=key or new_key(), value=b"v")]), **changes
        )

    def writing(self, written: Any, **changes: Any) -> Envelope:
        return self.envelope(results=results_of((CHAINCODE, written)), **changes)

    def envelope(self, **fields: Any) -> Envelope:
        return Envelope(self.bench.caller, fields.pop("endorsers", self.bench.endorsers), chaincode=CHAINCODE, **fields)

    async def existing(self) -> str:
        key = new_key()
        await Client(self.bench.gateway, self.bench.caller).submit("put", key, "there")
        return key

    async def code_of(self, made: Envelope | bytes) -> str:
        content = common_pb2.Envelope.FromString(made if isinstance(made, bytes) else made.encode())
        request = gateway_pb2.SubmitRequest(channel_id="care", prepared_transaction=content)
        self.bench.verdicts.pop(sha256(content.payload), None)
        await self.calls.gateway.Submit(request)
        return await self.bench.verdict(content.payload)


@pytest.fixture(scope="module")
async def hand(network: Network) -> AsyncIterator[Hand]:
    async with bench_on(network) as bench, raw.calls_of(network.endpoint("HospitalA")) as calls:
        yield Hand(bench, calls)


def results_of(*namespaces: tuple[str, Any]) -> bytes:
    message = rwset_pb2.TxReadWriteSet()
    for name, written in namespaces:
        message.ns_rwset.add(namespace=name, rwset=written.SerializeToString())
    return bytes(message.SerializeToString())


def writes(key: str = "k") -> Any:
    return kv_rwset_pb2.KVRWSet(writes=[kv_rwset_pb2.KVWrite(key=key, value=b"v")])


def results_in_collection(collection: str) -> bytes:
    """A private write, known by its hashes only: the value itself is lost."""
    hashed = kv_rwset_pb2.HashedRWSet(
        hashed_writes=[kv_rwset_pb2.KVWriteHash(key_hash=sha256(os.urandom(8)), value_hash=sha256(b"v"))]
    ).SerializeToString()
    message = rwset_pb2.TxReadWriteSet()
    part = message.ns_rwset.add(namespace=CHAINCODE, rwset=kv_rwset_pb2.KVRWSet().SerializeToString())
    part.collection_hashed_rwset.add(collection_name=collection, hashed_rwset=hashed, pvt_rwset_hash=sha256(b"lost"))
    return bytes(message.SerializeToString())


def payload_of(envelope: Envelope) -> Any:
    return common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope.encode()).payload)


def without_nonce(hand: Hand) -> bytes:
    envelope = hand.put()
    payload = payload_of(envelope)
    payload.header.signature_header = common_pb2.SignatureHeader(
        creator=hand.bench.caller.serialized
    ).SerializeToString()
    return envelope.signed(payload.SerializeToString())


def with_actions(number: int) -> Callable[[Hand], bytes]:
    def make(hand: Hand) -> bytes:
        envelope = hand.put()
        payload = payload_of(envelope)
        transaction = transaction_pb2.Transaction.FromString(payload.data)
        payload.data = transaction_pb2.Transaction(actions=list(transaction.actions) * number).SerializeToString()
        return envelope.signed(payload.SerializeToString())

    return make


def changed_after_endorsement(hand: Hand) -> bytes:
    envelope = hand.put("endorsed-key")
    content = envelope.encode().replace(b"endorsed-key", b"replaced-key")
    return envelope.signed(common_pb2.Envelope.FromString(content).payload)


def event_of(chaincode: str) -> bytes:
    return bytes(chaincode_event_pb2.ChaincodeEvent(chaincode_id=chaincode, event_name="e").SerializeToString())


def extension_of(chaincode: str) -> bytes:
    named = proposal_pb2.ChaincodeHeaderExtension(chaincode_id={"name": chaincode})
    return bytes(named.SerializeToString())


def endorsed_by(*roles: tuple[str, str]) -> Callable[[Hand], Envelope]:
    """(MSP id, role) of each endorser."""
    return lambda hand: hand.put(endorsers=[hand.bench.network.member(msp_id, role=role) for msp_id, role in roles])


def with_results(results: bytes, *msp_ids: str) -> Callable[[Hand], Envelope]:
    def make(hand: Hand) -> Envelope:
        endorsers = [each for each in hand.bench.endorsers if each.msp_id in (msp_ids or MSP_IDS)]
        return hand.envelope(results=results, endorsers=endorsers)

    return make


A, B = MSP_IDS
CASES: list[tuple[str, str, Callable[[Hand], Envelope | bytes]]] = [
    ("VALID", "a write", lambda hand: hand.put()),
    ("VALID", "nothing written", with_results(b"")),
    ("VALID", "an event", lambda hand: hand.put(event=event_of(CHAINCODE))),
    ("BAD_COMMON_HEADER", "no nonce", without_nonce),
    ("BAD_COMMON_HEADER", "an epoch", lambda hand: hand.put(header={"epoch": 1})),
    ("BAD_COMMON_HEADER", "a type that is none", lambda hand: hand.put(header={"type": common_pb2.MESSAGE})),
    ("BAD_PROPOSAL_TXID", "another id", lambda hand: hand.put(header={"tx_id": "0" * 64})),
    ("INVALID_ENDORSER_TRANSACTION", "no action", with_actions(0)),
    ("INVALID_ENDORSER_TRANSACTION", "two actions", with_actions(2)),
    ("INVALID_ENDORSER_TRANSACTION", "another proposal", lambda hand: hand.put(proposal_hash=os.urandom(32))),
    ("INVALID_ENDORSER_TRANSACTION", "no proposal", lambda hand: hand.put(input=b"")),
    ("BAD_HEADER_EXTENSION", "garbage", lambda hand: hand.put(header={"extension": b"\xff"})),
    ("INVALID_OTHER_REASON", "no extension", lambda hand: hand.put(header={"extension": b""})),
    ("INVALID_CHAINCODE", "another extension", lambda hand: hand.put(header={"extension": extension_of("x")})),
    ("INVALID_CHAINCODE", "no version", lambda hand: hand.put(version="")),
    ("INVALID_CHAINCODE", "undefined", lambda hand: hand.put().with_(chaincode="undefined", results=b"")),
    ("INVALID_CHAINCODE", "undefined namespace", with_results(results_of(("undefined", writes())))),
    ("BAD_RWSET", "garbage", with_results(b"\xff")),
    ("ILLEGAL_WRITESET", "a namespace twice", with_results(results_of((CHAINCODE, writes()), (CHAINCODE, writes())))),
    ("INVALID_OTHER_REASON", "another's event", lambda hand: hand.put(event=event_of("another"))),
    ("INVALID_OTHER_REASON", "a garbled event", lambda hand: hand.put(event=b"\xff")),
    ("ENDORSEMENT_POLICY_FAILURE", "one of two", endorsed_by((A, "peer"))),
    ("ENDORSEMENT_POLICY_FAILURE", "none", endorsed_by()),
    ("ENDORSEMENT_POLICY_FAILURE", "a client", endorsed_by((A, "peer"), (B, "client"))),
    ("ENDORSEMENT_POLICY_FAILURE", "one organization twice", endorsed_by((A, "peer"), (A, "peer"))),
    ("ENDORSEMENT_POLICY_FAILURE", "changed afterwards", changed_after_endorsement),
    ("ENDORSEMENT_POLICY_FAILURE", "nothing written, one of two", with_results(b"", A)),
    ("ENDORSEMENT_POLICY_FAILURE", "B's collection by A", with_results(results_in_collection(f"_implicit_org_{B}"), A)),
    ("VALID", "A's collection by A", with_results(results_in_collection(f"_implicit_org_{A}"), A)),
    ("ENDORSEMENT_POLICY_FAILURE", "no such collection", with_results(results_in_collection("_implicit_org_Nobody"))),
]


@pytest.mark.parametrize(
    ("code", "make"), [(code, make) for code, _, make in CASES], ids=[name for _, name, _ in CASES]
)
async def test_a_transaction_gets_the_code_that_fabric_gives(
    hand: Hand, code: str, make: Callable[[Hand], Envelope | bytes]
) -> None:
    assert await hand.code_of(make(hand)) == code


async def test_a_read_of_another_version_is_a_conflict(hand: Hand) -> None:
    key = await hand.existing()
    written = writes(new_key())
    written.reads.add(key=key)  # without a version: it was not there
    assert await hand.code_of(hand.writing(written)) == "MVCC_READ_CONFLICT"


async def test_a_range_in_which_a_key_has_appeared_is_a_phantom(hand: Hand) -> None:
    key = await hand.existing()
    written = writes(new_key())
    written.range_queries_info.add(
        start_key=key, end_key=f"{key}~", itr_exhausted=True, raw_reads=kv_rwset_pb2.QueryReads()
    )
    assert await hand.code_of(hand.writing(written)) == "PHANTOM_READ_CONFLICT"


@pytest.mark.parametrize("endorsers", [None, 1], ids=["valid before", "invalid before"])
async def test_an_id_is_used_once(hand: Hand, endorsers: int | None) -> None:
    envelope = hand.put(endorsers=hand.bench.endorsers[:endorsers])
    content = envelope.encode()
    assert await hand.code_of(content) == ("VALID" if endorsers is None else "ENDORSEMENT_POLICY_FAILURE")
    assert await hand.code_of(content) == "DUPLICATE_TXID"


async def test_what_was_endorsed_must_be_readable(hand: Hand) -> None:
    envelope = hand.put()
    payload = payload_of(envelope)
    transaction = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload)
    response = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
    response.extension = b"\xff"
    action.action.proposal_response_payload = response.SerializeToString()
    transaction.actions[0].payload = action.SerializeToString()
    payload.data = transaction.SerializeToString()
    assert await hand.code_of(envelope.signed(payload.SerializeToString())) == "BAD_RESPONSE_PAYLOAD"


async def test_a_key_with_a_policy_needs_its_endorsers(hand: Hand) -> None:
    key = new_key()
    client = Client(hand.bench.gateway, hand.bench.caller)
    await client.submit("put_with_policy", key, "v", f"OR('{B}.peer')")
    of_a, of_b = hand.bench.endorsers
    assert await hand.code_of(hand.put(key, endorsers=[of_a])) == "ENDORSEMENT_POLICY_FAILURE"
    assert await hand.code_of(hand.put(key, endorsers=[of_b])) == "VALID"
