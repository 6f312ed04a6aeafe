"""Which organizations' peers are asked to endorse, and what became of it: a gateway's endorsement plan.

An organization has one peer here, so an organization is what Fabric's discovery calls a group, and a layout is a set
of organizations whose endorsements satisfy every policy involved.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from fabric_protos.gateway import gateway_pb2

from hlf_devnet.endorser import FIRST_ERROR_STATUS, Endorsed, Endorser
from hlf_devnet.policy import IMPLICIT_PREFIX, ChannelPolicies, PolicyError
from hlf_devnet.proposal import Proposal
from hlf_devnet.proposal_checks import ProposalRefused
from hlf_devnet.statuses import RpcError, error_detail

LEVELLING_SECONDS: Final = 1.0
_TIME_OUT: Final = "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
Members = Mapping[str, Endorser]
"""The organizations whose peers run, by MSP id."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How one peer failed. `elsewhere`: another peer may be asked the same (an evaluation does)."""

    code: grpc.StatusCode
    message: str
    elsewhere: bool


async def ask(
    endorser: Endorser, proposal: Proposal, *, sign: bool = True, seconds: float | None = None
) -> Endorsed | Failure:
    """One peer's answer, as a gateway judges it. It is waited for no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            endorsed = await endorser.process(proposal, sign=sign)
    except TimeoutError:
        return Failure(grpc.StatusCode.UNAVAILABLE, _TIME_OUT, elsewhere=True)
    except ProposalRefused as error:
        if error.before_processing:
            return Failure(grpc.StatusCode.UNAVAILABLE, str(error), elsewhere=True)
        return Failure(grpc.StatusCode.FAILED_PRECONDITION, str(error), elsewhere=False)
    response = endorsed.response.response
    if 200 <= response.status < FIRST_ERROR_STATUS:
        return endorsed
    if response.status == 500 and not endorsed.response.payload:
        return Failure(grpc.StatusCode.ABORTED, response.message, elsewhere=True)
    message = f"chaincode response {response.status}, {response.message}"
    return Failure(grpc.StatusCode.UNKNOWN, message, elsewhere=False)


def detail(endorser: Endorser, message: str) -> Any:
    return error_detail(endorser.peer.address, endorser.peer.msp_id, message)


@dataclass(slots=True)
class Collected:
    """The endorsements of one proposal so far; they count only while their payloads are the same bytes."""

    payload: bytes | None = None
    endorsements: dict[str, Any] = field(default_factory=dict)
    details: list[gateway_pb2.ErrorDetail] = field(default_factory=list)

    def add(self, endorser: Endorser, answer: Endorsed | Failure) -> None:
        if isinstance(answer, Failure):
            self.details.append(detail(endorser, answer.message))
            return
        payload = answer.response.payload
        if self.payload is None:
            self.payload = payload
        if payload == self.payload:
            self.endorsements[endorser.peer.msp_id] = answer.response.endorsement
        else:
            self.details.append(detail(endorser, "ProposalResponsePayloads do not match"))

    def satisfies(self, layout: Iterable[str]) -> bool:
        return all(member in self.endorsements for member in layout)


async def at_one_height(endorsers: Sequence[Endorser]) -> None:
    """Waits until all have the newest block that one of them has: in one process nobody need simulate behind another.

    Gives up after a second; endorsements may then differ, as on Fabric.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEVELLING_SECONDS):
            while True:
                newest = max((endorser.peer.ledger.height for endorser in endorsers), default=0)
                behind = [endorser.peer.ledger for endorser in endorsers if endorser.peer.ledger.height < newest]
                if not behind:
                    return
                await asyncio.gather(*(ledger.wait_for_height(newest) for ledger in behind))


def named_layout(members: Members, chaincode: str, organizations: Sequence[str]) -> frozenset[str]:
    """The organizations that the client named; UNAVAILABLE if one of them has no peer with the chaincode."""
    available = _with_chaincode(members, chaincode)
    if missing := [name for name in organizations if name not in available]:
        text = f"failed to find any endorsing peers for org(s): {', '.join(missing)}"
        raise RpcError(grpc.StatusCode.UNAVAILABLE, text)
    return frozenset(organizations)


def evaluators(members: Members, home: str, chaincode: str, organizations: Sequence[str]) -> list[Endorser]:
    """Whom to ask for an evaluation, the gateway's own organization first, then whoever has most blocks."""
    available = _with_chaincode(members, chaincode)
    wanted = [name for name in (organizations or available) if name in available]
    return sorted(
        (available[name] for name in dict.fromkeys(wanted)),
        key=lambda endorser: (endorser.peer.msp_id != home, -endorser.peer.ledger.height),
    )


def own_layouts(
    first: Endorser, answer: Endorsed, proposal: Proposal, members: Members, policies: ChannelPolicies
) -> list[frozenset[str]]:
    """The sets of organizations that could endorse what `first` simulated, those with `first` in front.

    Collections that the chaincode read go to their members only; with transient data so do those that it wrote.
    FAILED_PRECONDITION if there is no set.
    """
    if answer.simulation is None:
        return [frozenset({first.peer.msp_id})]
    written = set(answer.simulation.private_collections)
    readers = _members_of(answer.private_reads, members)
    trusted = _members_of(written, members) & readers if proposal.has_transient_data else readers
    required = _required(policies, answer.simulation.policies)
    available = frozenset(_with_chaincode(members, proposal.chaincode))
    layouts = [layout for layout in required if layout <= trusted & available]
    if not layouts and written and any(layout <= readers & available for layout in required):
        names = " ".join(sorted(collection for _, collection in written - answer.private_reads))
        raise RpcError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "requires endorsement from organisation(s) that are not in the distribution policy of the private data "
            f"collection(s): [{names}]; retry specifying trusted endorsing organizations to protect transient data",
        )
    if not layouts:
        raise _no_combination("no peer combination can satisfy the endorsement policy")
    return sorted(layouts, key=lambda layout: first.peer.msp_id not in layout)


def _with_chaincode(members: Members, chaincode: str) -> dict[str, Endorser]:
    return {name: endorser for name, endorser in members.items() if endorser.peer.endorses(chaincode)}


def _members_of(collections: Iterable[tuple[str, str]], members: Members) -> frozenset[str]:
    """Who belongs to all of `collections`; an implicit one has one member."""
    allowed = frozenset(members)
    for _, collection in collections:
        allowed &= {collection.removeprefix(IMPLICIT_PREFIX)}
    return allowed


def _required(policies: ChannelPolicies, needed: Iterable[Any]) -> list[frozenset[str]]:
    try:
        return policies.required_org_sets(needed)
    except PolicyError as error:
        raise _no_combination(str(error)) from error


def _no_combination(reason: str) -> RpcError:
    return RpcError(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"no combination of peers can be derived which satisfy the endorsement policy: {reason}",
    )


def no_endorser(proposal: Proposal) -> RpcError:
    """The gateway's organization has no peer with the chaincode; it never sends transient data to others unasked."""
    if proposal.has_transient_data:
        return RpcError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "no endorsers found in the gateway's organization; retry specifying endorsing organization(s) to protect "
            "transient data",
        )
    return _no_combination(f"No metadata was found for chaincode {proposal.called} in channel {proposal.channel_id}")
