"""What somebody is asked to sign, read from nothing but its bytes.

Whoever holds a key shows this to a person before signing: it does not rest on what a service says beside the bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf.message import DecodeError

from hlf.blocks import BlockTransaction, decode_payload
from hlf.crypto import sha256
from hlf.gateway.headers import transaction_id_of
from hlf.identity import Identity


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """A call of a chaincode function in somebody's name. `transient_hashes` are SHA-256 in hex, by name: the data go to
    the endorsers and into no block."""

    transaction_id: str
    channel: str
    chaincode: str
    function: str
    arguments: tuple[bytes, ...]
    transient_hashes: Mapping[str, str]
    creator: Identity
    at: datetime


def read_proposal(proposal: bytes) -> ProposedCall:
    """Reads a serialized `protos.Proposal`, the bytes whose SHA-256 is `Proposal.digest`.

    ValueError if they cannot be read, or if their parts contradict each other: an id that is not that of nonce and
    creator, another chaincode in the header than is called.
    """
    try:
        message = proposal_pb2.Proposal.FromString(proposal)
        header = common_pb2.Header.FromString(message.header)
        channel = common_pb2.ChannelHeader.FromString(header.channel_header)
        signature = common_pb2.SignatureHeader.FromString(header.signature_header)
        extension = proposal_pb2.ChaincodeHeaderExtension.FromString(channel.extension)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(message.payload)
        spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
        at = channel.timestamp.ToDatetime()
    except (DecodeError, ValueError, OverflowError) as error:
        raise ValueError("the proposal cannot be read") from error
    if channel.type != common_pb2.ENDORSER_TRANSACTION or not spec.input.args:
        raise ValueError("the proposal calls no function")
    if channel.tx_id != transaction_id_of(signature.nonce, signature.creator):
        raise ValueError("the transaction id is not that of nonce and creator")
    if extension.chaincode_id.name != spec.chaincode_id.name:
        raise ValueError("the header names another chaincode than is called")
    return ProposedCall(
        transaction_id=channel.tx_id,
        channel=channel.channel_id,
        chaincode=spec.chaincode_id.name,
        function=_text(spec.input.args[0]),
        arguments=tuple(spec.input.args[1:]),
        transient_hashes={name: sha256(value).hex() for name, value in sorted(payload.TransientMap.items())},
        creator=Identity.from_serialized(signature.creator),
        at=at,
    )


def read_transaction(transaction: bytes, proposal: bytes) -> BlockTransaction:
    """Reads a serialized `common.Payload`, the bytes whose SHA-256 is `Transaction.digest`: what it writes and who
    endorsed it.

    ValueError if it cannot be read, or if it is not what became of `proposal`, the bytes that were signed before: other
    headers, another call, or a result that was endorsed for another proposal. Endorsements are not verified.
    """
    decoded = decode_payload(transaction)
    try:
        proposed = proposal_pb2.Proposal.FromString(proposal)
        header = common_pb2.Header.FromString(proposed.header)
        payload = common_pb2.Payload.FromString(transaction)
        actions = transaction_pb2.Transaction.FromString(payload.data).actions
        action = transaction_pb2.ChaincodeActionPayload.FromString(actions[0].payload)
        response = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
        called = proposal_pb2.ChaincodeProposalPayload.FromString(proposed.payload)
    except (DecodeError, IndexError) as error:
        raise ValueError("the transaction cannot be read") from error
    called.ClearField("TransientMap")
    public = called.SerializeToString()
    expected_hash = sha256(header.channel_header, header.signature_header, public)
    if (
        payload.header != header
        or len(actions) != 1
        or action.chaincode_proposal_payload != public
        or response.proposal_hash != expected_hash
    ):
        raise ValueError("the transaction is not the one that was proposed")
    return decoded


def _text(function: bytes) -> str:
    try:
        return function.decode()
    except UnicodeDecodeError as error:
        raise ValueError("the function's name is no text") from error
