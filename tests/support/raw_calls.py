"""Calls of a peer's gRPC services with messages that the test puts together, right or wrong."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import chaincode_pb2, events_pb2_grpc, peer_pb2_grpc, proposal_pb2
from google.protobuf import timestamp_pb2
from hlf.crypto import sha256
from hlf.errors import ErrorDetail, error_details
from hlf.gateway import Endpoint
from hlf.identity import SigningIdentity

NEVER = 2**64 - 1


@dataclass(frozen=True)
class Calls:
    gateway: Any
    endorser: Any
    deliver: Any


@asynccontextmanager
async def calls_of(endpoint: Endpoint) -> AsyncIterator[Calls]:
    async with endpoint.open_channel({}) as channel:
        yield Calls(
            gateway_pb2_grpc.GatewayStub(channel),
            peer_pb2_grpc.EndorserStub(channel),
            events_pb2_grpc.DeliverStub(channel),
        )


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    message: str
    details: tuple[ErrorDetail, ...]


async def refusal_of(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value.code(), caught.value.details() or "", error_details(caught.value))


def timestamp(offset_seconds: float = 0) -> Any:
    now = time.time() + offset_seconds
    return timestamp_pb2.Timestamp(seconds=int(now), nanos=int(now % 1 * 1e9))


def header(signer: SigningIdentity, channel: str, kind: int, **fields: Any) -> Any:
    """`fields` replace those of the channel header."""
    nonce = secrets.token_bytes(24)
    values = {
        "type": kind,
        "channel_id": channel,
        "tx_id": sha256(nonce, signer.serialized).hex(),
        "timestamp": timestamp(),
        **fields,
    }
    signature_header = common_pb2.SignatureHeader(creator=signer.serialized, nonce=nonce)
    return common_pb2.Header(
        channel_header=common_pb2.ChannelHeader(**values).SerializeToString(),
        signature_header=signature_header.SerializeToString(),
    )


def proposal(
    signer: SigningIdentity,
    *args: str | bytes,
    channel: str = "care",
    chaincode: str = "conformance",
    kind: int = common_pb2.ENDORSER_TRANSACTION,
    signature: bytes | None = None,
    **fields: Any,
) -> Any:
    """A `SignedProposal`. `fields` replace those of the channel header."""
    identifier = chaincode_pb2.ChaincodeID(name=chaincode)
    encoded = [arg.encode() if isinstance(arg, str) else arg for arg in args]
    specification = chaincode_pb2.ChaincodeSpec(
        chaincode_id=identifier, input=chaincode_pb2.ChaincodeInput(args=encoded)
    )
    invocation = chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=specification)
    extension = proposal_pb2.ChaincodeHeaderExtension(chaincode_id=identifier).SerializeToString()
    payload = proposal_pb2.ChaincodeProposalPayload(input=invocation.SerializeToString())
    content = proposal_pb2.Proposal(
        header=header(signer, channel, kind, extension=extension, **fields).SerializeToString(),
        payload=payload.SerializeToString(),
    ).SerializeToString()
    return proposal_pb2.SignedProposal(
        proposal_bytes=content, signature=signer.sign(content) if signature is None else signature
    )


def evaluate(proposed: Any, targets: Sequence[str] = ()) -> Any:
    return gateway_pb2.EvaluateRequest(
        channel_id="care", proposed_transaction=proposed, target_organizations=list(targets)
    )


def endorse(proposed: Any, organizations: Sequence[str] = ()) -> Any:
    return gateway_pb2.EndorseRequest(
        channel_id="care", proposed_transaction=proposed, endorsing_organizations=list(organizations)
    )


def commit_status(signer: SigningIdentity, transaction_id: str, *, channel: str = "care") -> Any:
    request = gateway_pb2.CommitStatusRequest(
        transaction_id=transaction_id, channel_id=channel, identity=signer.serialized
    ).SerializeToString()
    return gateway_pb2.SignedCommitStatusRequest(request=request, signature=signer.sign(request))


def seek(
    signer: SigningIdentity,
    start: int | str | None,
    stop: int | str | None,
    *,
    channel: str = "care",
    offset_seconds: float = 0,
    signature: bytes | None = None,
    **fields: Any,
) -> Any:
    """A signed envelope. Positions are numbers, "oldest", "newest" or "next_commit"; `fields` those of SeekInfo."""
    info = ab_pb2.SeekInfo(start=_position(start), stop=_position(stop), **fields)
    payload = common_pb2.Payload(
        header=header(signer, channel, common_pb2.DELIVER_SEEK_INFO, timestamp=timestamp(offset_seconds)),
        data=info.SerializeToString(),
    ).SerializeToString()
    return common_pb2.Envelope(payload=payload, signature=signer.sign(payload) if signature is None else signature)


def _position(position: int | str | None) -> Any:
    if position is None:
        return None
    result = ab_pb2.SeekPosition()
    if isinstance(position, int):
        result.specified.number = position
    else:
        getattr(result, position).SetInParent()
    return result
