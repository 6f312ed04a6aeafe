"""What a signed proposal says about a transaction: who, when, with what transient data."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType

from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_pb2
from google.protobuf.message import DecodeError

from hlf import crypto
from hlf.chaincode.errors import ProposalMalformed
from hlf.identity import Identity

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEADER_TYPES = frozenset({common_pb2.ENDORSER_TRANSACTION, common_pb2.CONFIG})


@dataclass(frozen=True, slots=True)
class Invocation:
    """The caller's part of a transaction. `timestamp` is the client's word, cut to microseconds; nobody has checked
    it.
    """

    creator: Identity
    timestamp: datetime
    transient: Mapping[str, bytes] = field(repr=False)
    binding: bytes = field(repr=False)


def read_proposal(proposal_bytes: bytes) -> Invocation:
    """Reads `peer.Proposal`. Raises `ProposalMalformed`."""
    try:
        proposal = proposal_pb2.Proposal.FromString(proposal_bytes)
        header = common_pb2.Header.FromString(proposal.header)
        channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
        signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        creator = _identity(signature_header.creator)
    except (DecodeError, ValueError) as error:
        raise ProposalMalformed("the proposal cannot be read") from error
    if channel_header.type not in _HEADER_TYPES:
        raise ProposalMalformed("the proposal is not one for a transaction")
    epoch = struct.pack("<Q", channel_header.epoch)
    return Invocation(
        creator=creator,
        timestamp=to_datetime(channel_header.timestamp.seconds, channel_header.timestamp.nanos),
        transient=MappingProxyType(dict(payload.TransientMap)),
        binding=crypto.sha256(signature_header.nonce, signature_header.creator, epoch),
    )


def to_datetime(seconds: int, nanos: int) -> datetime:
    """A protobuf timestamp in UTC, cut to microseconds. Raises `ProposalMalformed` where the calendar ends."""
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError as error:
        raise ProposalMalformed("a timestamp is out of range") from error


@lru_cache(maxsize=4096)
def _identity(serialized: bytes) -> Identity:
    """Callers come again and again: their certificates are parsed once."""
    return Identity.from_serialized(serialized)


@lru_cache(maxsize=4096)
def attributes_of(creator: Identity) -> Mapping[str, str]:
    """The certificate's attributes. Raises ValueError when the certificate or its attributes are malformed."""
    return MappingProxyType(creator.attributes)
