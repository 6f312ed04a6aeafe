"""Whether a peer processes a proposal at all: Fabric's checks of headers, caller, repetition and access."""

from datetime import UTC, datetime
from typing import Any, Final

from fabric_protos.common import common_pb2
from hlf import crypto

from hlf_devnet.access import AccessControl, AccessDenied, is_expired
from hlf_devnet.identities import VerifiedIdentity
from hlf_devnet.msp import IdentityError
from hlf_devnet.peer import SYSTEM_CHAINCODES, Peer
from hlf_devnet.proposal import Proposal

_NOT_READ: Final = "creator org unknown, creator is malformed"
_UNREADABLE: Final = frozenset(
    {
        "unknown organization",
        "not a serialized identity",
        "the certificate is malformed or not about a P-256 key",
        "the certificate is not issued by the organization's authority",
        "more than one chain leads to a root",
    }
)
"""Why an identity cannot even be read: Fabric builds the chain while it reads (msp `getCertificationChain`)."""


class ProposalRefused(Exception):
    """The proposal is not one that this peer processes. `before_processing`: an expired caller or another time, which a
    Fabric peer turns away in front of its endorser; a gateway then takes the peer for unavailable."""

    def __init__(self, message: str, *, before_processing: bool = False) -> None:
        super().__init__(message)
        self.before_processing = before_processing


def check_time(proposal: Proposal, access: AccessControl) -> None:
    """Raises ProposalRefused if its timestamp is missing or too far from this machine's clock."""
    timestamp = proposal.channel_header.timestamp
    if not access.is_timely(timestamp):
        raise ProposalRefused(
            f"request unauthorized due to incorrect timestamp {_told(timestamp)}, peer time "
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}, peer.authentication.timewindow {access.time_window_seconds:g}s",
            before_processing=True,
        )


def _told(timestamp: Any) -> str:
    try:
        return str(timestamp.ToJsonString())
    except ValueError:
        return f"{timestamp.seconds} s"


def check(proposal: Proposal, peer: Peer) -> VerifiedIdentity:
    """The caller, a valid member that may propose this to `peer`; raises ProposalRefused."""
    _check_headers(proposal)
    caller = _caller(proposal, peer)
    if not proposal.channel_id:
        return caller
    if peer.ledger.validation_code(proposal.transaction_id) is not None:
        raise ProposalRefused(
            f"duplicate transaction found [{proposal.transaction_id}]. Creator [{proposal.creator.hex()}]"
        )
    if proposal.chaincode not in SYSTEM_CHAINCODES:
        try:
            peer.access.check_resource("peer/Propose", caller)
        except AccessDenied as error:
            raise ProposalRefused(str(error)) from error
    return caller


def _caller(proposal: Proposal, peer: Peer) -> VerifiedIdentity:
    denied = f"access denied: channel [{proposal.channel_id}]"
    try:
        caller = _identified(proposal, peer)
    except IdentityError as error:
        reason = _NOT_READ if error.reason in _UNREADABLE else f"creator org [{error.msp_id}]"
        raise ProposalRefused(f"{_validating(denied)} {reason}") from error
    if is_expired(caller):
        raise ProposalRefused("proposal client identity expired", before_processing=True)
    if not peer.local.verify(caller, proposal.signed.proposal_bytes, proposal.signed.signature):
        raise ProposalRefused(f"{_validating(denied)} creator org [{caller.msp_id}]")
    return caller


def _identified(proposal: Proposal, peer: Peer) -> VerifiedIdentity:
    """Without a channel the peer's own MSP decides."""
    if proposal.channel_id:
        return peer.access.identify(proposal.creator)
    peer.local.reload_revocations()
    return peer.local.validate(proposal.creator)


def _check_headers(proposal: Proposal) -> None:
    header, signature_header = proposal.channel_header, proposal.signature_header
    if header.type not in (common_pb2.ENDORSER_TRANSACTION, common_pb2.CONFIG):
        names = common_pb2.HeaderType.DESCRIPTOR.values_by_number
        kind = names[header.type].name if header.type in names else str(header.type)
        raise ProposalRefused(_validating(f"invalid header type {kind}"))
    if header.epoch != 0:
        raise ProposalRefused(_validating("epoch is non-zero"))
    if not signature_header.nonce:
        raise ProposalRefused(_validating("nonce is empty"))
    if not signature_header.creator:
        raise ProposalRefused(_validating("creator is empty"))
    expected = crypto.sha256(signature_header.nonce, signature_header.creator).hex()
    if header.tx_id != expected:
        raise ProposalRefused(_validating(f"incorrectly computed txid '{header.tx_id}' -- expected '{expected}'"))
    if not proposal.signed.signature:
        raise ProposalRefused(_validating("empty signature bytes"))


def _validating(reason: str) -> str:
    return f"error validating proposal: {reason}"
