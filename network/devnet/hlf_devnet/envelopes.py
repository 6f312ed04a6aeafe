"""Takes transactions apart: from an envelope down to what it writes, and what is wrong with its form.

The checks and their order are those of Fabric's `core/common/validation/msgvalidation.go` and of the first half of
`core/committer/txvalidator/v20/plugindispatcher/dispatcher.go`.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_event_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf.message import DecodeError

from hlf_devnet import rwset
from hlf_devnet.state import KeyModification

Codes = transaction_pb2
_TYPES = (common_pb2.ENDORSER_TRANSACTION, common_pb2.CONFIG_UPDATE, common_pb2.CONFIG)


class InvalidTransaction(Exception):
    """`code`: the `peer.TxValidationCode` that a transaction gets."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(slots=True)
class Headers:
    """An envelope whose form is right, down to its headers."""

    envelope: Any
    payload: Any
    channel_header: Any
    signature_header: Any


@dataclass(slots=True)
class Action:
    """What an endorsed transaction does. `signed` is what every endorser signed, followed by its own identity."""

    chaincode: str
    signed: bytes
    endorsements: Any
    rwset: rwset.Rwset
    event: bytes


def headers(content: bytes) -> Headers:
    """The headers of a serialized envelope; InvalidTransaction unless they are well-formed."""
    envelope = _parsed(common_pb2.Envelope, content, Codes.INVALID_OTHER_REASON)
    payload = _parsed(common_pb2.Payload, envelope.payload, Codes.BAD_PAYLOAD)
    if not payload.HasField("header"):
        raise InvalidTransaction(Codes.BAD_COMMON_HEADER, "no header")
    channel_header = _parsed(common_pb2.ChannelHeader, payload.header.channel_header, Codes.BAD_COMMON_HEADER)
    signature_header = _parsed(common_pb2.SignatureHeader, payload.header.signature_header, Codes.BAD_COMMON_HEADER)
    return Headers(envelope, payload, channel_header, signature_header)


def check_headers(found: Headers) -> None:
    """What a committer asks of them. Nobody creates a genesis block, so it would not pass."""
    if found.channel_header.type not in _TYPES or found.channel_header.epoch != 0:
        raise InvalidTransaction(Codes.BAD_COMMON_HEADER, "unknown type or epoch")
    if not found.signature_header.nonce or not found.signature_header.creator:
        raise InvalidTransaction(Codes.BAD_COMMON_HEADER, "no nonce or creator")


def check_transaction_id(found: Headers) -> None:
    if found.channel_header.tx_id != transaction_id(found.signature_header):
        raise InvalidTransaction(Codes.BAD_PROPOSAL_TXID, "the transaction id is not that of nonce and creator")


def transaction_id(signature_header: Any) -> str:
    return hashlib.sha256(signature_header.nonce + signature_header.creator).hexdigest()


def recorded_transaction_id(content: bytes) -> str:
    """The id under which a peer finds the envelope again, valid or not; empty when there is none."""
    try:
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(content).payload)
        channel_header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    except DecodeError:
        return ""
    if not payload.HasField("header"):
        return ""
    return str(channel_header.tx_id) or transaction_id(signature_header)


def endorsed_action(found: Headers) -> Any:
    """The `ChaincodeActionPayload` of a transaction whose proposal is the one that was endorsed; InvalidTransaction
    otherwise."""
    bad = Codes.INVALID_ENDORSER_TRANSACTION
    transaction = _parsed(transaction_pb2.Transaction, found.payload.data, bad)
    if len(transaction.actions) != 1:
        raise InvalidTransaction(bad, "not exactly one action")
    (only,) = transaction.actions
    signature_header = _parsed(common_pb2.SignatureHeader, only.header, bad)
    if not signature_header.nonce or not signature_header.creator:
        raise InvalidTransaction(bad, "no nonce or creator in the action")
    payload = _parsed(transaction_pb2.ChaincodeActionPayload, only.payload, bad)
    if not payload.chaincode_proposal_payload:
        raise InvalidTransaction(bad, "no proposal")
    response = _parsed(proposal_response_pb2.ProposalResponsePayload, payload.action.proposal_response_payload, bad)
    channel_header = found.payload.header.channel_header
    if response.proposal_hash != proposal_hash(channel_header, only.header, payload.chaincode_proposal_payload):
        raise InvalidTransaction(bad, "the endorsed proposal is another one")
    return payload


def action(found: Headers, endorsed: Any) -> Action:
    """What the endorsers endorsed, of an `endorsed_action`. InvalidTransaction with Fabric's code for what is wrong."""
    extension = _parsed(
        proposal_pb2.ChaincodeHeaderExtension, found.channel_header.extension, Codes.BAD_HEADER_EXTENSION
    )
    signed = endorsed.action.proposal_response_payload
    response = _parsed(proposal_response_pb2.ProposalResponsePayload, signed, Codes.BAD_RESPONSE_PAYLOAD)
    if not response.extension:
        raise InvalidTransaction(Codes.BAD_RESPONSE_PAYLOAD, "nothing was endorsed")
    chaincode_action = _parsed(proposal_pb2.ChaincodeAction, response.extension, Codes.BAD_RESPONSE_PAYLOAD)
    try:
        written = rwset.parse(chaincode_action.results)
    except rwset.RwsetError as error:
        raise InvalidTransaction(Codes.BAD_RWSET, "malformed read-write set") from error
    _check_chaincode(extension, chaincode_action)
    _check_event(chaincode_action)
    if len({part.namespace for part in written}) != len(written):
        raise InvalidTransaction(Codes.ILLEGAL_WRITESET, "a namespace occurs twice")
    name = chaincode_action.chaincode_id.name
    return Action(name, signed, endorsed.action.endorsements, written, chaincode_action.events)


def write_of(content: bytes, namespace: str, key: str) -> KeyModification:
    """What a committed transaction wrote to a key. KeyError if nothing."""
    found = headers(content)
    for part in action(found, endorsed_action(found)).rwset:
        for write in part.public.writes:
            if part.namespace == namespace and write.key == key:
                at = found.channel_header.timestamp
                deletes = rwset.deletes(write)
                return KeyModification(found.channel_header.tx_id, write.value, (at.seconds, at.nanos), deletes)
    raise KeyError(key)


def proposal_hash(channel_header: bytes, signature_header: bytes, payload_without_transient: bytes) -> bytes:
    """What an endorsement binds. The payload is a ChaincodeProposalPayload whose TransientMap was removed."""
    digest = hashlib.sha256(channel_header)
    digest.update(signature_header)
    digest.update(payload_without_transient)
    return digest.digest()


def _check_chaincode(extension: Any, chaincode_action: Any) -> None:
    if not extension.HasField("chaincode_id") or not chaincode_action.HasField("chaincode_id"):
        raise InvalidTransaction(Codes.INVALID_OTHER_REASON, "no chaincode id")
    name, endorsed = extension.chaincode_id.name, chaincode_action.chaincode_id
    if not name or name != endorsed.name or not endorsed.version:
        raise InvalidTransaction(Codes.INVALID_CHAINCODE, "the chaincode's name or version is missing or another")


def _check_event(chaincode_action: Any) -> None:
    if chaincode_action.events:
        event = _parsed(chaincode_event_pb2.ChaincodeEvent, chaincode_action.events, Codes.INVALID_OTHER_REASON)
        if event.chaincode_id != chaincode_action.chaincode_id.name:
            raise InvalidTransaction(Codes.INVALID_OTHER_REASON, "the event is another chaincode's")


def _parsed(message: Any, content: bytes, code: int) -> Any:
    try:
        return message.FromString(content)
    except DecodeError:
        raise InvalidTransaction(code, f"malformed {message.DESCRIPTOR.name}") from None
