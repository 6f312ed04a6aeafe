"""What a client proposes, taken apart once for every peer that endorses it."""

from dataclasses import dataclass
from typing import Any, TypeVar

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from google.protobuf.message import DecodeError, Message
from hlf import crypto

Decoded = TypeVar("Decoded", bound=Message)


class MalformedMessage(Exception):
    """Bytes that are not the message they should be, or lack what it needs; worded as Fabric does."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`hash`: SHA-256 of channel header, signature header and the payload without transient data, as it stands in a
    `ProposalResponsePayload`. `public_payload`: that payload, as it will stand in the transaction.

    A chaincode is named twice: endorsers run `chaincode`, gateways look for peers that have `called`. `fault`: what an
    endorser finds missing, though a gateway passes it on; empty if nothing is.
    """

    signed: Any
    header: Any
    channel_header: Any
    signature_header: Any
    chaincode: str
    called: str
    fault: str
    input: Any
    public_payload: bytes
    has_transient_data: bool
    hash: bytes

    @property
    def channel_id(self) -> str:
        return str(self.channel_header.channel_id)

    @property
    def transaction_id(self) -> str:
        return str(self.channel_header.tx_id)

    @property
    def creator(self) -> bytes:
        return bytes(self.signature_header.creator)


def decode(message: type[Decoded], encoded: bytes) -> Decoded:
    try:
        return message.FromString(encoded)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise MalformedMessage(f"error unmarshalling {name}: proto: cannot parse invalid wire-format data") from error


def unpack(signed: Any, *, to_evaluate: bool = False) -> Proposal:
    """The parts of a `peer.SignedProposal`, of which nothing is judged yet. Raises MalformedMessage, with `to_evaluate`
    also where it lacks what a gateway needs for an evaluation."""
    proposal = decode(proposal_pb2.Proposal, signed.proposal_bytes)
    header = decode(common_pb2.Header, proposal.header)
    channel_header = decode(common_pb2.ChannelHeader, header.channel_header)
    signature_header = decode(common_pb2.SignatureHeader, header.signature_header)
    payload = decode(proposal_pb2.ChaincodeProposalPayload, proposal.payload)
    specification = decode(chaincode_pb2.ChaincodeInvocationSpec, payload.input)
    if to_evaluate:
        _require_names(channel_header.channel_id, specification)
    chaincode, fault = _endorsers_view(channel_header.extension, specification)
    public_payload = proposal_pb2.ChaincodeProposalPayload(input=payload.input).SerializeToString()
    return Proposal(
        signed=signed,
        header=header,
        channel_header=channel_header,
        signature_header=signature_header,
        chaincode=chaincode,
        called=specification.chaincode_spec.chaincode_id.name,
        fault=fault,
        input=specification.chaincode_spec.input,
        public_payload=public_payload,
        has_transient_data=bool(payload.TransientMap),
        hash=crypto.sha256(header.channel_header, header.signature_header, public_payload),
    )


def _require_names(channel: str, specification: Any) -> None:
    if not channel:
        raise MalformedMessage("no channel id provided")
    called = specification.chaincode_spec
    for is_there, what in (
        (specification.HasField("chaincode_spec"), "spec"),
        (called.HasField("chaincode_id"), "id"),
        (called.chaincode_id.name, "name"),
    ):
        if not is_there:
            raise MalformedMessage(f"no chaincode {what} is provided, channel id [{channel}]")


def _endorsers_view(header_extension: bytes, specification: Any) -> tuple[str, str]:
    """Which chaincode it runs, and what it finds missing."""
    try:
        extension = decode(proposal_pb2.ChaincodeHeaderExtension, header_extension)
    except MalformedMessage as error:
        return "", str(error)
    return extension.chaincode_id.name, _fault(extension, specification)


def _fault(extension: Any, specification: Any) -> str:
    if not extension.HasField("chaincode_id"):
        return "ChaincodeHeaderExtension.ChaincodeId is nil"
    if not extension.chaincode_id.name:
        return "ChaincodeHeaderExtension.ChaincodeId.Name is empty"
    if not specification.HasField("chaincode_spec"):
        return "chaincode invocation spec did not contain chaincode spec"
    if not specification.chaincode_spec.HasField("input"):
        return "chaincode input did not contain any input"
    return ""
