"""Blocks and members made for tests, in Fabric's own messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import events_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from hlf.blocks import block_data_hash, block_header_hash
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.crypto import sha256
from hlf.gateway.headers import new_headers
from hlf.identity import SigningIdentity


def new_member(msp_id: str = "HospitalA", common_name: str = "someone", **issue: Any) -> SigningIdentity:
    """A member with a certificate of a CA of its own."""
    key = new_private_key()
    authority = CertificateAuthority.create(f"ca.{msp_id}", msp_id)
    certificate = authority.issue(common_name, key.public_key(), **{"organizational_units": ["client"], **issue})
    return SigningIdentity(msp_id, certificate_to_pem(certificate), key)


def new_envelope(
    creator: SigningIdentity,
    writes: Mapping[str, bytes] | None = None,
    private: Mapping[str, bytes] | None = None,
    *,
    channel: str = "care",
) -> tuple[str, bytes]:
    """Transaction id and serialized envelope of an endorsed transaction of chaincode "kv" (collection "c")."""
    headers = new_headers(creator, channel, common_pb2.ENDORSER_TRANSACTION, "kv")
    hashed = [
        kv_rwset_pb2.KVWriteHash(key_hash=sha256(key.encode()), value_hash=sha256(value))
        for key, value in (private or {}).items()
    ]
    collection = rwset_pb2.CollectionHashedReadWriteSet(
        collection_name="c", hashed_rwset=kv_rwset_pb2.HashedRWSet(hashed_writes=hashed).SerializeToString()
    )
    public = kv_rwset_pb2.KVRWSet(
        writes=[kv_rwset_pb2.KVWrite(key=key, value=value) for key, value in (writes or {}).items()]
    )
    results = rwset_pb2.TxReadWriteSet(
        ns_rwset=[
            rwset_pb2.NsReadWriteSet(
                namespace="kv", rwset=public.SerializeToString(), collection_hashed_rwset=[collection]
            )
        ]
    )
    action = proposal_pb2.ChaincodeAction(results=results.SerializeToString())
    response = proposal_response_pb2.ProposalResponsePayload(extension=action.SerializeToString())
    payload = transaction_pb2.ChaincodeActionPayload()
    payload.action.proposal_response_payload = response.SerializeToString()
    transaction = transaction_pb2.Transaction(
        actions=[transaction_pb2.TransactionAction(payload=payload.SerializeToString())]
    )
    message = common_pb2.Payload(
        header=common_pb2.Header.FromString(headers.serialized), data=transaction.SerializeToString()
    ).SerializeToString()
    envelope = common_pb2.Envelope(payload=message, signature=creator.sign(message))
    return headers.transaction_id, envelope.SerializeToString()


@dataclass
class Chain:
    """A growing chain; every transaction is valid unless a code is given."""

    blocks: list[Any] = field(default_factory=list)

    def add(self, envelopes: Sequence[bytes], codes: bytes | None = None) -> Any:
        previous = self.blocks[-1].header if self.blocks else None
        block = common_pb2.Block()
        block.header.number = len(self.blocks)
        if previous:
            block.header.previous_hash = block_header_hash(previous.number, previous.previous_hash, previous.data_hash)
        block.header.data_hash = block_data_hash(envelopes)
        block.data.data.extend(envelopes)
        block.metadata.metadata.extend([b"", b"", codes or bytes(len(envelopes)), b"", b""])
        self.blocks.append(block)
        return block


def filtered(block: Any, transaction_ids: Sequence[str]) -> Any:
    codes = block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER]
    return events_pb2.FilteredBlock(
        channel_id="care",
        number=block.header.number,
        filtered_transactions=[
            events_pb2.FilteredTransaction(txid=transaction_id, tx_validation_code=code)
            for transaction_id, code in zip(transaction_ids, codes, strict=True)
        ],
    )
