"""Endorses proposals for one peer: checks the caller, runs the chaincode, signs what came out (`protos.Endorser`)."""

from dataclasses import dataclass
from typing import Any, Final

import grpc
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2
from google.protobuf.message import DecodeError

from hlf_devnet.chaincode_messages import ChaincodeMessage, Kind
from hlf_devnet.chaincode_requests import TransactionContext
from hlf_devnet.chaincode_session import ChaincodeError, RequestRefused
from hlf_devnet.identities import VerifiedIdentity
from hlf_devnet.lifecycle import NAMESPACE as LIFECYCLE
from hlf_devnet.lifecycle import ChaincodeDefinition
from hlf_devnet.peer import SYSTEM_CHAINCODES, Peer
from hlf_devnet.proposal import MalformedMessage, Proposal, unpack
from hlf_devnet.proposal_checks import ProposalRefused, check, check_time
from hlf_devnet.simulator import SimulationError, SimulationResult, Simulator
from hlf_devnet.statuses import RpcError, ServicerContext, abort
from hlf_devnet.system_chaincodes import SystemChaincodes

FIRST_ERROR_STATUS: Final = 400
"""A chaincode response from here on cannot become a transaction."""
SYSTEM_CHAINCODE_VERSION: Final = "syscc"


class EndorsementFailed(Exception):
    """Processing failed inside the peer: the proposal response has status 500 and no payload."""


@dataclass(frozen=True, slots=True)
class Endorsed:
    """`response`: a `protos.ProposalResponse`; it carries an endorsement if its status is below 400.
    `private_reads`: (namespace, collection) of what the chaincode read in collections."""

    response: Any
    simulation: SimulationResult | None = None
    private_reads: frozenset[tuple[str, str]] = frozenset()


class Endorser:
    def __init__(self, peer: Peer, system_chaincodes: SystemChaincodes) -> None:
        self._peer = peer
        self._system = system_chaincodes

    @property
    def peer(self) -> Peer:
        return self._peer

    async def process(self, proposal: Proposal, *, sign: bool = True) -> Endorsed:
        """What `ProcessProposal` answers; raises ProposalRefused. With `sign` false nothing is kept or signed."""
        check_time(proposal, self._peer.access)
        if proposal.fault:
            raise ProposalRefused(proposal.fault)
        if proposal.channel_id and not self._peer.serves(proposal.channel_id):
            return _failure(f"channel '{proposal.channel_id}' not found")
        caller = check(proposal, self._peer)
        try:
            return await self._endorse(proposal, caller, sign)
        except EndorsementFailed as error:
            return _failure(str(error))
        except SimulationError as error:
            return _failure(f"error in simulation: {error}")

    async def _endorse(self, proposal: Proposal, caller: VerifiedIdentity, sign: bool) -> Endorsed:
        if proposal.chaincode in SYSTEM_CHAINCODES:
            return await self._endorse_system(proposal, caller, sign)
        definition = self._definition(proposal.chaincode, proposal.channel_id)
        simulator = Simulator(self._peer.ledger, proposal.transaction_id)
        private_reads: set[tuple[str, str]] = set()
        try:
            message = await self._simulate(proposal, simulator, private_reads)
            response = _response_of(message, proposal.transaction_id)
            failed = response.status >= FIRST_ERROR_STATUS
            simulation = None if failed else simulator.finish()
        finally:
            simulator.close()
        self._keep_private(proposal, simulation, sign)
        event = b"" if failed else _event_of(message, proposal)
        answer = self._answer(proposal, response, simulation, event, definition.version, sign=sign)
        return Endorsed(answer.response, simulation, frozenset(private_reads))

    async def _endorse_system(self, proposal: Proposal, caller: VerifiedIdentity, sign: bool) -> Endorsed:
        """`_lifecycle` reads and writes the ledger as any chaincode does; the others only look at it."""
        simulator = None
        if proposal.chaincode == LIFECYCLE and proposal.channel_id:
            simulator = Simulator(self._peer.ledger, proposal.transaction_id)
            simulator.enter_system(LIFECYCLE)
        try:
            response = await self._system.invoke(proposal, caller, simulator)
            failed = response.status >= FIRST_ERROR_STATUS
            simulation = None if failed or simulator is None else simulator.finish()
        finally:
            if simulator is not None:
                simulator.close()
        self._keep_private(proposal, simulation, sign)
        answer = self._answer(proposal, response, simulation, b"", SYSTEM_CHAINCODE_VERSION, sign=sign)
        return Endorsed(answer.response, simulation)

    def _keep_private(self, proposal: Proposal, simulation: SimulationResult | None, sign: bool) -> None:
        if simulation is not None and simulation.private is not None and sign:
            self._peer.transient.persist(proposal.transaction_id, self._peer.ledger.height, simulation.private)

    def _definition(self, chaincode: str, channel: str) -> ChaincodeDefinition:
        found = self._peer.chaincodes.find(chaincode) if channel else None
        if found is not None and found.client is not None:
            return found.definition
        if found is None:
            reason = f"chaincode {chaincode} not found"
        elif not found.is_approved:
            reason = (
                f"chaincode definition for '{chaincode}' at sequence {found.definition.sequence} on channel "
                f"'{channel}' has not yet been approved by this org"
            )
        else:
            reason = f"chaincode definition for '{chaincode}' exists, but chaincode is not installed"
        raise EndorsementFailed(
            f"make sure the chaincode {chaincode} has been successfully defined on channel {channel} and try again: "
            f"{reason}"
        )

    async def _simulate(
        self, proposal: Proposal, simulator: Simulator, private_reads: set[tuple[str, str]]
    ) -> ChaincodeMessage:
        context = TransactionContext(
            proposal.channel_id, proposal.transaction_id, proposal.chaincode, proposal, simulator, private_reads
        )
        try:
            return await self._run(context, proposal.input)
        except ChaincodeError as error:
            raise _execution_failed(proposal.transaction_id, str(error)) from error

    async def _run(self, context: TransactionContext, chaincode_input: Any) -> ChaincodeMessage:
        if chaincode_input.is_init:
            raise ChaincodeError(
                f"invalid invocation: chaincode '{context.namespace}' does not require initialization but called as "
                "init"
            )
        context.simulator.enter(context.namespace)
        message = Kind(
            type=Kind.TRANSACTION,
            payload=chaincode_input.SerializeToString(),
            txid=context.transaction_id,
            channel_id=context.channel_id,
            proposal=context.proposal.signed,
        )
        found = self._peer.chaincodes.find(context.namespace)
        if found is None or found.client is None:
            raise ChaincodeError(f"chaincode {context.namespace} not found")
        return await found.client.execute(context, message)

    async def call(
        self, caller: TransactionContext, chaincode: str, channel: str, chaincode_input: Any
    ) -> ChaincodeMessage:
        """Chaincode to chaincode: the called one shares the caller's transaction. `channel` may be empty."""
        if channel not in ("", self._peer.channel):
            raise RequestRefused(f"failed to find ledger for channel: {channel}")
        if chaincode in SYSTEM_CHAINCODES:
            response = self._system.invoke_from_chaincode(chaincode, caller.proposal.chaincode)
            return Kind(type=Kind.COMPLETED, payload=response.SerializeToString())
        try:
            self._definition(chaincode, self._peer.channel)
        except EndorsementFailed as error:
            reason = str(error).partition("try again: ")[2]
            raise RequestRefused(
                f"execute failed: invalid invocation: [channel {self._peer.channel}] failed to get chaincode container "
                f"info for {chaincode}: {reason}"
            ) from error
        context = TransactionContext(
            caller.channel_id,
            caller.transaction_id,
            chaincode,
            caller.proposal,
            caller.simulator,
            caller.private_reads,
        )
        try:
            return await self._run(context, chaincode_input)
        except ChaincodeError as error:
            raise RequestRefused(f"execute failed: {error}") from error

    def _answer(
        self,
        proposal: Proposal,
        response: Any,
        simulation: SimulationResult | None,
        event: bytes,
        version: str,
        *,
        sign: bool,
    ) -> Endorsed:
        if FIRST_ERROR_STATUS <= response.status < 500 or not proposal.channel_id:
            return Endorsed(proposal_response_pb2.ProposalResponse(response=response))
        action = proposal_pb2.ChaincodeAction(
            results=b"" if simulation is None else simulation.public,
            events=event,
            response=response,
            chaincode_id=chaincode_pb2.ChaincodeID(name=proposal.chaincode, version=version),
        )
        payload = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=proposal.hash, extension=action.SerializeToString()
        ).SerializeToString()
        answer = proposal_response_pb2.ProposalResponse(response=response, payload=payload)
        if response.status < FIRST_ERROR_STATUS and sign:
            answer.version = 1
            signer = self._peer.signer
            answer.endorsement.endorser = signer.serialized
            answer.endorsement.signature = self._peer.access.msps.sign(signer, payload + signer.serialized)
        return Endorsed(answer, simulation)


def _failure(message: str) -> Endorsed:
    response = proposal_response_pb2.Response(status=500, message=message)
    return Endorsed(proposal_response_pb2.ProposalResponse(response=response))


def _execution_failed(transaction_id: str, reason: str) -> EndorsementFailed:
    return EndorsementFailed(f"error in simulation: failed to execute transaction {transaction_id}: {reason}")


def _response_of(message: ChaincodeMessage, transaction_id: str) -> Any:
    if message.type == Kind.ERROR:
        text = message.payload.decode(errors="replace")
        raise EndorsementFailed(f"error in simulation: transaction returned with failure: {text}")
    try:
        return proposal_response_pb2.Response.FromString(message.payload)
    except DecodeError as error:
        raise EndorsementFailed(
            f"error in simulation: failed to unmarshal response for transaction {transaction_id}: malformed"
        ) from error


def _event_of(message: ChaincodeMessage, proposal: Proposal) -> bytes:
    """The event with what only the peer may say: which chaincode, in which transaction."""
    if not message.HasField("chaincode_event"):
        return b""
    event = message.chaincode_event
    event.chaincode_id = proposal.chaincode
    event.tx_id = proposal.transaction_id
    return bytes(event.SerializeToString())


class EndorserService:
    """`protos.Endorser`: what a client that asks each peer itself calls."""

    def __init__(self, endorser: Endorser) -> None:
        self._endorser = endorser

    async def ProcessProposal(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802  protobuf's name
        try:
            endorsed = await self._endorser.process(unpack(request))
        except (MalformedMessage, ProposalRefused) as error:
            await abort(context, RpcError(grpc.StatusCode.UNKNOWN, str(error)))
        return endorsed.response
