"""A code for every way in which a transaction can be invalid."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import chaincode_event_pb2, proposal_pb2, transaction_pb2
from hlf.crypto import P256_ORDER
from hlf.identity import SigningIdentity
from support.devnet_channel import CHAINCODE, Channel, Envelope

Spoil = Callable[[Channel], bytes | Envelope]


def payload_of(envelope: Envelope) -> Any:
    return common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope.encode()).payload)


def without_header(channel: Channel) -> bytes:
    envelope = channel.put("k")
    return envelope.signed(common_pb2.Payload(data=payload_of(envelope).data).SerializeToString())


def without_nonce(channel: Channel) -> bytes:
    envelope = channel.put("k")
    payload = payload_of(envelope)
    payload.header.signature_header = common_pb2.SignatureHeader(creator=channel.client.serialized).SerializeToString()
    return envelope.signed(payload.SerializeToString())


def with_header(**fields: Any) -> Spoil:
    return lambda channel: channel.put("k").with_(header=fields)


def signed_by_another(channel: Channel) -> bytes:
    envelope = channel.put("k")
    payload = payload_of(envelope).SerializeToString()
    signature = channel.peers["HospitalB"].sign(payload)
    return bytes(common_pb2.Envelope(payload=payload, signature=signature).SerializeToString())


def signed_high_s(channel: Channel) -> bytes:
    message = common_pb2.Envelope.FromString(channel.put("k").encode())
    r, s = decode_dss_signature(message.signature)
    message.signature = encode_dss_signature(r, P256_ORDER - s)
    return bytes(message.SerializeToString())


def unsigned(channel: Channel) -> bytes:
    message = common_pb2.Envelope.FromString(channel.put("k").encode())
    return bytes(common_pb2.Envelope(payload=message.payload).SerializeToString())


def by_a_stranger(channel: Channel) -> Envelope:
    unknown = SigningIdentity("Elsewhere", channel.client.certificate_pem, channel.client.private_key)
    return channel.put("k").with_(creator=unknown)


def by_nobody_of_the_organization(channel: Channel) -> Envelope:
    other = channel.members["HospitalB"].identity()
    return channel.put("k").with_(creator=SigningIdentity("HospitalA", other.certificate_pem, other.private_key))


def two_actions(channel: Channel) -> bytes:
    envelope = channel.put("k")
    payload = payload_of(envelope)
    transaction = transaction_pb2.Transaction.FromString(payload.data)
    transaction.actions.append(transaction.actions[0])
    payload.data = transaction.SerializeToString()
    return envelope.signed(payload.SerializeToString())


def sent_before(channel: Channel) -> Envelope:
    envelope = channel.put("k")
    assert channel.commit(envelope) == ["VALID"]
    return envelope


def invalid_before(channel: Channel) -> Envelope:
    envelope = channel.put("k", endorsers=["HospitalA"])
    assert channel.commit(envelope) == ["ENDORSEMENT_POLICY_FAILURE"]
    return envelope


def with_results(results: bytes) -> Spoil:
    return lambda channel: channel.put("k").with_(results=results)


def twice_the_same_namespace() -> bytes:
    message = rwset_pb2.TxReadWriteSet()
    for _ in range(2):
        message.ns_rwset.add(namespace=CHAINCODE)
    return bytes(message.SerializeToString())


def writes_to(namespace: str) -> bytes:
    written = kv_rwset_pb2.KVRWSet(writes=[kv_rwset_pb2.KVWrite(key="k", value=b"v")])
    message = rwset_pb2.TxReadWriteSet()
    message.ns_rwset.add(namespace=namespace, rwset=written.SerializeToString())
    return bytes(message.SerializeToString())


def event_of(chaincode: str) -> bytes:
    return bytes(chaincode_event_pb2.ChaincodeEvent(chaincode_id=chaincode, event_name="e").SerializeToString())


def endorsed_for_another_proposal(channel: Channel) -> Envelope:
    return channel.put("k").with_(proposal_hash=os.urandom(32))


def endorsement_by_a_client(channel: Channel) -> Envelope:
    envelope = channel.put("k")
    return envelope.with_(endorsers=[envelope.endorsers[0], channel.members["HospitalB"].identity()])


def the_same_endorsement_twice(channel: Channel) -> Envelope:
    envelope = channel.put("k")
    return envelope.with_(endorsers=[envelope.endorsers[0]] * 2)


def changed_after_endorsement(channel: Channel) -> bytes:
    envelope = channel.put("k", b"endorsed")
    content = envelope.encode().replace(b"endorsed", b"replaced")
    return envelope.signed(common_pb2.Envelope.FromString(content).payload)


def stale_read(channel: Channel) -> Envelope:
    read = channel.endorse(increment)
    assert channel.commit(channel.put("counter")) == ["VALID"]
    return read


def increment(simulator: Any) -> None:
    simulator.get_state(CHAINCODE, "counter")
    simulator.put_state(CHAINCODE, "counter", b"1")


def phantom(channel: Channel) -> Envelope:
    def list_and_write(simulator: Any) -> None:
        rows = simulator.range(CHAINCODE, "a", "z")
        while rows.next() is not None:
            pass
        simulator.put_state(CHAINCODE, "count", b"0")

    listed = channel.endorse(list_and_write)
    assert channel.commit(channel.put("counter")) == ["VALID"]
    return listed


ENVELOPE = common_pb2.Envelope(payload=b"\xff").SerializeToString()
CASES: list[tuple[str, Spoil]] = [
    ("INVALID_OTHER_REASON", lambda _: b"\xff\xff"),
    ("BAD_PAYLOAD", lambda _: bytes(ENVELOPE)),
    ("BAD_COMMON_HEADER", lambda _: b""),
    ("BAD_COMMON_HEADER", without_header),
    ("BAD_COMMON_HEADER", without_nonce),
    ("BAD_COMMON_HEADER", with_header(epoch=1)),
    ("BAD_COMMON_HEADER", with_header(type=common_pb2.MESSAGE)),
    ("UNSUPPORTED_TX_PAYLOAD", with_header(type=common_pb2.CONFIG_UPDATE)),
    ("BAD_CREATOR_SIGNATURE", signed_by_another),
    ("BAD_CREATOR_SIGNATURE", signed_high_s),
    ("BAD_CREATOR_SIGNATURE", unsigned),
    ("BAD_CREATOR_SIGNATURE", by_a_stranger),
    ("BAD_CREATOR_SIGNATURE", by_nobody_of_the_organization),
    ("BAD_CREATOR_SIGNATURE", with_header(channel_id="other")),
    ("BAD_PROPOSAL_TXID", with_header(tx_id="0" * 64)),
    ("INVALID_ENDORSER_TRANSACTION", two_actions),
    ("INVALID_ENDORSER_TRANSACTION", endorsed_for_another_proposal),
    ("INVALID_ENDORSER_TRANSACTION", lambda channel: channel.put("k").with_(input=b"")),
    ("DUPLICATE_TXID", sent_before),
    ("DUPLICATE_TXID", invalid_before),
    ("BAD_HEADER_EXTENSION", with_header(extension=b"\xff")),
    ("INVALID_OTHER_REASON", with_header(extension=b"")),
    ("BAD_RWSET", with_results(b"\xff")),
    ("ILLEGAL_WRITESET", with_results(twice_the_same_namespace())),
    ("INVALID_CHAINCODE", lambda channel: channel.put("k").with_(chaincode="undefined", results=b"")),
    ("INVALID_CHAINCODE", lambda channel: channel.put("k").with_(version="")),
    ("INVALID_CHAINCODE", with_results(writes_to("undefined"))),
    (
        "INVALID_CHAINCODE",
        with_header(extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id={"name": "x"}).SerializeToString()),
    ),
    ("INVALID_OTHER_REASON", lambda channel: channel.put("k").with_(event=event_of("another"))),
    ("INVALID_OTHER_REASON", lambda channel: channel.put("k").with_(event=b"\xff")),
    ("ENDORSEMENT_POLICY_FAILURE", lambda channel: channel.put("k", endorsers=["HospitalA"])),
    ("ENDORSEMENT_POLICY_FAILURE", lambda channel: channel.put("k", endorsers=[])),
    ("ENDORSEMENT_POLICY_FAILURE", endorsement_by_a_client),
    ("ENDORSEMENT_POLICY_FAILURE", the_same_endorsement_twice),
    ("ENDORSEMENT_POLICY_FAILURE", changed_after_endorsement),
    ("ENDORSEMENT_POLICY_FAILURE", lambda channel: channel.endorse(lambda _: None, ["HospitalA"])),
    ("MVCC_READ_CONFLICT", stale_read),
    ("PHANTOM_READ_CONFLICT", phantom),
    ("VALID", lambda channel: channel.put("k").with_(event=event_of(CHAINCODE))),
    ("VALID", lambda channel: channel.endorse(lambda _: None)),
]


@pytest.mark.parametrize(("code", "spoil"), CASES, ids=[f"{index}-{code}" for index, (code, _) in enumerate(CASES)])
def test_a_transaction_gets_the_code_that_says_what_is_wrong(channel: Channel, code: str, spoil: Spoil) -> None:
    assert channel.commit(spoil(channel)) == [code]


def test_an_invalid_transaction_changes_nothing_but_is_found_by_its_id(channel: Channel) -> None:
    envelope = channel.put("k", endorsers=["HospitalA"])
    channel.commit(envelope)
    with channel.a.snapshot() as snapshot:
        assert snapshot.get(CHAINCODE, "k") is None
    found = channel.a.transaction(envelope.tx_id)
    assert found is not None
    assert found.validationCode == transaction_pb2.ENDORSEMENT_POLICY_FAILURE
    assert channel.a.validation_code(envelope.tx_id) == (transaction_pb2.ENDORSEMENT_POLICY_FAILURE, 2)


def test_of_two_equal_transactions_in_a_block_the_second_is_a_duplicate(channel: Channel) -> None:
    envelope = channel.put("k")
    assert channel.commit(envelope, envelope) == ["VALID", "DUPLICATE_TXID"]


def test_an_invalid_transaction_leaves_its_id_to_a_valid_one_of_the_same_block(channel: Channel) -> None:
    envelope = channel.put("k")
    unendorsed = envelope.with_(endorsers=[])
    assert channel.commit(unendorsed, envelope) == ["ENDORSEMENT_POLICY_FAILURE", "VALID"]


def test_the_second_reader_of_a_block_conflicts(channel: Channel) -> None:
    first, second = channel.endorse(increment), channel.endorse(increment)
    assert channel.commit(first, second) == ["VALID", "MVCC_READ_CONFLICT"]


def test_a_conflicting_transaction_does_not_hide_the_keys_that_it_would_have_written(channel: Channel) -> None:
    first, second, third = (channel.endorse(increment) for _ in range(3))
    assert channel.commit(first.with_(endorsers=[]), second, third) == [
        "ENDORSEMENT_POLICY_FAILURE",
        "VALID",
        "MVCC_READ_CONFLICT",
    ]


def test_a_certificate_revoked_after_endorsement_invalidates_the_transaction(channel: Channel) -> None:
    envelope = channel.put("k")
    revoke(channel, "HospitalA", channel.client)
    assert channel.commit(envelope) == ["BAD_CREATOR_SIGNATURE"]


def test_the_endorsement_of_a_revoked_peer_does_not_count(channel: Channel) -> None:
    envelope = channel.put("k")
    revoke(channel, "HospitalB", channel.peers["HospitalB"])
    assert channel.commit(envelope) == ["ENDORSEMENT_POLICY_FAILURE"]


def test_an_expired_certificate_does_not_invalidate_what_was_ordered(channel: Channel) -> None:
    from datetime import UTC, datetime, timedelta

    past = datetime.now(UTC) - timedelta(days=2)
    old = channel.members["HospitalA"].identity(now=past - timedelta(days=1), not_after=past)
    assert channel.commit(channel.put("k").with_(creator=old)) == ["VALID"]


def revoke(channel: Channel, msp_id: str, who: SigningIdentity) -> None:
    from datetime import UTC, datetime

    member = channel.members[msp_id]
    member.crl_file.parent.mkdir(exist_ok=True)
    serial = who.identity.certificate.serial_number
    member.crl_file.write_bytes(member.authority.crl([(serial, datetime.now(UTC))]))
