"""Signing a step where it is sent, or far away from the network.

The functions here need nothing but the bytes of a step: they are what a holder of a key runs, on a machine that never
sees a peer. Each returns the signature for `with_signature`.
"""

from collections.abc import Callable

from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2

from hlf.identity import Creator, Signer


class NotSigned(Exception):
    """A step was sent that has no signature, and whose creator cannot sign here."""


def sign_proposal(proposal: bytes, signer: Signer) -> bytes:
    """The signature for `Proposal.bytes`."""
    message = gateway_pb2.ProposedTransaction.FromString(proposal)
    return signer.sign(message.proposal.proposal_bytes)


def sign_transaction(transaction: bytes, signer: Signer, *, proposal: bytes | None = None) -> bytes:
    """The signature for `Transaction.bytes`.

    Given the bytes of the `proposal` that this signer signed before, it refuses (ValueError) a transaction that does
    not carry that proposal's headers.
    """
    message = gateway_pb2.PreparedTransaction.FromString(transaction)
    if proposal is not None:
        _require_same_headers(message, gateway_pb2.ProposedTransaction.FromString(proposal))
    return signer.sign(message.envelope.payload)


def sign_commit_status_request(request: bytes, signer: Signer) -> bytes:
    """The signature for `CommitStatusRequest.bytes`."""
    return signer.sign(gateway_pb2.SignedCommitStatusRequest.FromString(request).request)


def sign_with(creator: Creator | None, message: bytes) -> bytes:
    """The creator's signature. Raises NotSigned if it has no key here."""
    sign: Callable[[bytes], bytes] | None = getattr(creator, "sign", None)
    if sign is None:
        raise NotSigned("there is no key here to sign this step with; use with_signature")
    return sign(message)


def _require_same_headers(prepared: gateway_pb2.PreparedTransaction, proposed: gateway_pb2.ProposedTransaction) -> None:
    payload = common_pb2.Payload.FromString(prepared.envelope.payload)
    headers: bytes = payload.header.SerializeToString()
    # The header is the first field of a proposal, so the proposal's bytes hold it unchanged.
    if headers not in proposed.proposal.proposal_bytes:
        raise ValueError("the transaction is not the one that was proposed")
