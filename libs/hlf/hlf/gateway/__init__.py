"""Client of Fabric's gateway service: propose, endorse, submit, and learn how it ended, each step on its own.

Every step takes a timeout, raises one error class of its own, and can be signed off-line from bytes.
"""

from hlf.gateway.client import Gateway
from hlf.gateway.commit_status import CommitStatus, CommitStatusRequest
from hlf.gateway.contents import ProposedCall, read_proposal, read_transaction
from hlf.gateway.contract import Contract
from hlf.gateway.endpoint import Endpoint, Timeouts
from hlf.gateway.proposal import Proposal
from hlf.gateway.signing import NotSigned, sign_commit_status_request, sign_proposal, sign_transaction
from hlf.gateway.transaction import Transaction

__all__ = [
    "CommitStatus",
    "CommitStatusRequest",
    "Contract",
    "Endpoint",
    "Gateway",
    "NotSigned",
    "Proposal",
    "ProposedCall",
    "Timeouts",
    "Transaction",
    "read_proposal",
    "read_transaction",
    "sign_commit_status_request",
    "sign_proposal",
    "sign_transaction",
]
