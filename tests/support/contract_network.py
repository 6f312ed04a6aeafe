"""Two hospitals with the contract on a real network, called with certificates of any kind; no service in between.

The contracts are served from the test's own process, so that a test can move their clocks, or put a hospital's own
idea of a contract in their place; the network's processes are those of `support.devnet` and `support.fabric`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from emr_chaincode.contract import EmrContract
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Endorsers, Function, Kind, Role
from emr_model.ledger.refusals import Refusal, parse_refusal
from emr_network.topology import CHANNEL_ENDORSEMENT
from emr_network.waiting import eventually
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_pb2
from hlf import policies
from hlf.admin.lifecycle import ChaincodeDefinition
from hlf.certs import public_key_to_der
from hlf.chaincode import Chaincode, ChaincodeServer, Response, Stub
from hlf.commits import Commit, CommitTracker
from hlf.errors import HlfError
from hlf.gateway import Gateway, Proposal, Timeouts, Transaction
from hlf.identity import SigningIdentity
from support.devnet import MSP_IDS, POLICY, Member, new_devnet
from support.fabric import Fabric, new_fabric

CHANNEL, CHAINCODE = "care", "emr"
FARTHEST_CLOCK = timedelta(days=2)
"""How far a test may move the clock on devnet; official peers endorse nothing farther than 15 minutes from theirs."""
A, B = MSP_IDS


def new_id() -> str:
    """A random 128-bit id, as patientId, emrId and noteId are."""
    return secrets.token_hex(16)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def key_of(person: SigningIdentity) -> str:
    """What CreateEmr and RebindPatientKey call the patientKey."""
    return sha256(public_key_to_der(person.private_key.public_key()))


class RefusedByContract(AssertionError):
    """The contract said no; `refusal` is what it said."""

    def __init__(self, refusal: Refusal, status: int) -> None:
        super().__init__(refusal.code.name)
        self.refusal = refusal
        self.code = refusal.code
        self.status = status


@dataclass
class Clock:
    """The time of clients and endorsers: the present, moved by `ahead`."""

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Replaceable:
    """A chaincode in whose place another can be put while it serves."""

    original: Chaincode
    replacement: Chaincode | None = None

    def invoke(self, stub: Stub) -> Awaitable[Response]:
        return (self.replacement or self.original).invoke(stub)


@dataclass
class Hospital:
    member: Member
    gateway: Gateway
    chaincode: Replaceable
    tracker: CommitTracker | None = None

    def person(self, role: Role | str | None, patient_id: str | None = None) -> SigningIdentity:
        """A new member with a valid certificate; `role` None carries no attribute at all."""
        attributes = {} if role is None else {"emr.role": str(role)}
        if patient_id is not None:
            attributes["emr.patientId"] = patient_id
        return self.member.identity(f"x-{secrets.token_hex(8)}", attributes=attributes)


@dataclass
class ContractNetwork:
    """`stop_peer` and `start_peer` take an MSP id; a peer that has started has all blocks."""

    hospitals: dict[str, Hospital]
    clock: Clock
    stop_peer: Callable[[str], Awaitable[None]]
    start_peer: Callable[[str], Awaitable[None]]
    is_devnet: bool
    _staff: dict[tuple[str, Role], SigningIdentity] = field(default_factory=dict)
    _stopped: set[str] = field(default_factory=set)

    def staff(self, msp_id: str, role: Role) -> SigningIdentity:
        """One and the same member of staff a hospital and role."""
        if (msp_id, role) not in self._staff:
            self._staff[msp_id, role] = self.hospitals[msp_id].person(role)
        return self._staff[msp_id, role]

    @asynccontextmanager
    async def without_peer(self, msp_id: str) -> AsyncIterator[None]:
        await self.stop_peer(msp_id)
        self._stopped.add(msp_id)
        try:
            yield
        finally:
            await self.start_peer(msp_id)
            self._stopped.discard(msp_id)

    @asynccontextmanager
    async def with_own_chaincode(self, msp_id: str, chaincode: Chaincode) -> AsyncIterator[None]:
        """The hospital runs a chaincode of its own making."""
        hospital = self.hospitals[msp_id]
        hospital.chaincode.replacement = chaincode
        try:
            yield
        finally:
            hospital.chaincode.replacement = None

    def propose(
        self,
        person: SigningIdentity,
        function: Function | str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] | None = None,
        endorsers: Sequence[str] = (),
        at: datetime | None = None,
    ) -> Proposal:
        """A proposal with the time of `clock`, or that of `at`."""
        gateway = self.hospitals[person.msp_id].gateway
        name = function if isinstance(function, str) else function.wire_name
        contract = gateway.contract(person, CHANNEL, CHAINCODE)
        made = contract.propose(name, *arguments, transient=transient, endorsing_organizations=endorsers)
        return _at(gateway, made, person, at or self.clock.now())

    async def evaluate(
        self,
        person: SigningIdentity,
        function: Function | str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] | None = None,
        on: str | None = None,
        at: datetime | None = None,
    ) -> bytes:
        """Raises `RefusedByContract`."""
        proposal = self.propose(person, function, *arguments, transient=transient, at=at)
        try:
            return await proposal.evaluate(target_organizations=[on or person.msp_id])
        except HlfError as error:
            raise _refused(error) from error

    async def endorse(
        self,
        person: SigningIdentity,
        function: Function | str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] | None = None,
        endorsers: Sequence[str] | None = None,
        at: datetime | None = None,
    ) -> Transaction:
        """Raises `RefusedByContract`. By default by those who must endorse the function."""
        names = self.endorsers(person, function) if endorsers is None else endorsers
        proposal = self.propose(person, function, *arguments, transient=transient, endorsers=names, at=at)
        try:
            return await proposal.endorse()
        except HlfError as error:
            raise _refused(error) from error

    async def commit(self, person: SigningIdentity, transaction: Transaction) -> Commit:
        """Submits, and waits until every hospital's peer has the block. The transaction may be invalid."""
        tracker = self.hospitals[person.msp_id].tracker
        assert tracker is not None
        pending = tracker.expect(transaction.transaction_id)
        await transaction.submit()
        commit = await pending.outcome(20)
        for hospital in self.hospitals.values():
            if hospital.tracker is not None and hospital.member.msp_id not in self._stopped:
                await hospital.tracker.wait_for_block(commit.block_number, 20)
        return commit

    async def submit(
        self,
        person: SigningIdentity,
        function: Function | str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] | None = None,
        endorsers: Sequence[str] | None = None,
    ) -> tuple[bytes, str]:
        """Commits, asserting that it is valid: the answer and the transaction id. Raises `RefusedByContract`."""
        transaction = await self.endorse(person, function, *arguments, transient=transient, endorsers=endorsers)
        commit = await self.commit(person, transaction)
        assert commit.validation_name == "VALID", commit.validation_name
        return transaction.result, transaction.transaction_id

    def endorsers(self, person: SigningIdentity, function: Function | str) -> Sequence[str]:
        """Endings are called here by people of the owner, purges by the recipient: their own hospital."""
        if isinstance(function, str) or function.spec.kind is Kind.EVALUATE:
            return list(self.hospitals)
        return list(self.hospitals) if function.spec.endorsers is Endorsers.ALL else [person.msp_id]


async def refusal_of(call: object) -> Code:
    """The code with which a call is refused; its HTTP status is the code's own."""
    with pytest.raises(RefusedByContract) as caught:
        await call  # type: ignore[misc]
    assert caught.value.status == caught.value.code.status
    return caught.value.code


@asynccontextmanager
async def on_devnet(folder: Path, msp_ids: Sequence[str] = MSP_IDS) -> AsyncIterator[ContractNetwork]:
    """Two hospitals endorse everything; of more, a majority."""
    settings = {"limits": {"time_window_seconds": FARTHEST_CLOCK.total_seconds()}}
    devnet = new_devnet(folder, settings=settings, msp_ids=msp_ids)
    devnet.chaincode = CHAINCODE
    clock = Clock()
    async with AsyncExitStack() as stack:
        hospitals = {msp_id: await _hospital(stack, clock, devnet, msp_id, f"{CHAINCODE}:1") for msp_id in msp_ids}
        stack.push_async_callback(devnet.close)
        await devnet.start()
        for msp_id in msp_ids:
            await devnet.wait_for_chaincode(msp_id)
        await _follow(stack, hospitals)
        yield ContractNetwork(hospitals, clock, devnet.stop_peer, devnet.start_peer, is_devnet=True)


@asynccontextmanager
async def on_fabric(folder: Path, msp_ids: Sequence[str] = MSP_IDS) -> AsyncIterator[ContractNetwork]:
    """The same. Raises ProgramsMissing."""
    fabric = new_fabric(folder, msp_ids=msp_ids)
    clock = Clock()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fabric.close)
        package_ids = await _deploy(fabric)
        hospitals = {msp_id: await _hospital(stack, clock, fabric, msp_id, package_ids[msp_id]) for msp_id in msp_ids}
        await _settle(hospitals)
        await _follow(stack, hospitals)

        async def start_peer(msp_id: str) -> None:
            await fabric.start_node(msp_id)
            await _settle(hospitals)

        yield ContractNetwork(hospitals, clock, fabric.stop_peer, start_peer, is_devnet=False)


async def _deploy(fabric: Fabric) -> dict[str, str]:
    for name in ("orderer", *fabric.msp_ids):
        await fabric.start_node(name)
    await fabric.channel_setup.create(fabric.channel_setup.genesis(fabric.folder / "genesis.block"))
    policy = policies.parse(POLICY) if fabric.msp_ids == MSP_IDS else CHANNEL_ENDORSEMENT
    definition = ChaincodeDefinition(CHAINCODE, "1.0", 1, policy)
    return await fabric.deploy(definition, {one: fabric.members[one].chaincode_address for one in fabric.msp_ids})


async def _hospital(stack: AsyncExitStack, clock: Clock, net: Any, msp_id: str, chaincode_id: str) -> Hospital:
    member: Member = net.members[msp_id]
    chaincode = Replaceable(EmrContract(clock.now))
    server = ChaincodeServer(chaincode, member.chaincode_address, chaincode_id, stop_grace_seconds=1)
    await stack.enter_async_context(server)
    gateway = await stack.enter_async_context(net.gateway(msp_id, Timeouts(evaluate=20, endorse=30)))
    return Hospital(member, gateway, chaincode)


async def _settle(hospitals: Mapping[str, Hospital]) -> None:
    """A gateway knows the other organizations' peers only when gossip has found them."""
    for hospital in hospitals.values():
        contract = hospital.gateway.contract(hospital.person(Role.SERVICE), CHANNEL, CHAINCODE)
        name = Function.LIST_ORGANIZATIONS.wire_name

        async def endorse(contract: Any = contract, name: str = name) -> Transaction:
            endorsed: Transaction = await contract.propose(name, endorsing_organizations=list(hospitals)).endorse()
            return endorsed

        await eventually(endorse, _passes)


def _passes(failure: HlfError) -> bool:
    is_starting = failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)
    return is_starting or bool(failure.unavailable_organizations)


async def _follow(stack: AsyncExitStack, hospitals: Mapping[str, Hospital]) -> None:
    for hospital in hospitals.values():
        tracker = CommitTracker(hospital.gateway, hospital.person(Role.SERVICE), CHANNEL)
        hospital.tracker = await stack.enter_async_context(tracker)


def _at(gateway: Gateway, made: Proposal, person: SigningIdentity, at: datetime) -> Proposal:
    message = gateway_pb2.ProposedTransaction.FromString(made.bytes)
    proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
    channel_header.timestamp.FromDatetime(at)
    header.channel_header = channel_header.SerializeToString()
    proposal.header = header.SerializeToString()
    message.proposal.proposal_bytes = proposal.SerializeToString()
    message.proposal.signature = person.sign(message.proposal.proposal_bytes)
    transaction = gateway.proposal(message.SerializeToString())
    transaction._creator = person  # so that what is endorsed signs itself
    return transaction


def _refused(error: HlfError) -> Exception:
    answer = error.chaincode_response
    refusal = parse_refusal(answer[1]) if answer else None
    return error if answer is None or refusal is None else RefusedByContract(refusal, answer[0])
