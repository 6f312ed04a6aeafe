"""`gateway.Gateway` of one organization's peer: evaluate, endorse, submit, commit status, chaincode events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import transaction_pb2

from hlf_devnet.access import AccessDenied
from hlf_devnet.chaincode_events import chaincode_events
from hlf_devnet.endorser import Endorser
from hlf_devnet.orderer import BroadcastRefused, Orderer
from hlf_devnet.peer import Peer, PeerStopped
from hlf_devnet.planning import (
    Collected,
    Failure,
    Members,
    ask,
    at_one_height,
    detail,
    evaluators,
    named_layout,
    no_endorser,
    own_layouts,
)
from hlf_devnet.proposal import MalformedMessage, Proposal, decode, unpack
from hlf_devnet.statuses import RpcError, ServicerContext, abort

Code = grpc.StatusCode


class Gateway:
    """The service of `home`. `running`: the peers that run and have joined, `home` among them. No peer's endorsement is
    waited for longer than `endorsement_seconds`."""

    def __init__(
        self, home: Endorser, running: Callable[[], Members], orderer: Orderer, endorsement_seconds: float
    ) -> None:
        self._home = home
        self._endorsement_seconds = endorsement_seconds
        self._running = running
        self._orderer = orderer

    def _members(self) -> Members:
        """The peers that may take part: those of the channel's members, as the own peer knows them."""
        known = self._peer.access.organizations if self._peer.has_joined else ()
        return {msp_id: endorser for msp_id, endorser in self._running().items() if msp_id in known}

    @property
    def _peer(self) -> Peer:
        return self._home.peer

    async def evaluate(self, request: Any) -> Any:
        proposal = _proposal_of(request, "failed to unpack transaction proposal: ")
        self._require_channel(proposal.channel_id, Code.UNAVAILABLE)
        targets = list(request.target_organizations)
        protected = proposal.has_transient_data and not targets
        home = self._peer.msp_id
        candidates = evaluators(self._members(), home, proposal.called, [home] if protected else targets)
        if not candidates:
            text = f"no peers available to evaluate chaincode {proposal.called} in channel {proposal.channel_id}"
            advice = "no endorsers found in the gateway's organization; retry specifying target organization(s) to "
            raise RpcError(Code.FAILED_PRECONDITION, f"{advice}protect transient data: {text}" if protected else text)
        return gateway_pb2.EvaluateResponse(result=await _first_answer(candidates, proposal))

    async def endorse(self, request: Any) -> Any:
        proposal = _proposal_of(request, "")
        if request.endorsing_organizations:
            members = self._members() if self._peer.serves(proposal.channel_id) else {}
            layout = named_layout(members, proposal.called, request.endorsing_organizations)
            collected, layouts = Collected(), [layout]
        else:
            collected, layouts = await self._plan(proposal)
        for layout in layouts:
            await self._collect(proposal, layout, collected)
            if collected.satisfies(layout):
                return gateway_pb2.EndorseResponse(prepared_transaction=_prepare(proposal, layout, collected))
        text = "failed to collect enough transaction endorsements, see attached details for more info"
        raise RpcError(Code.ABORTED, text, *collected.details)

    async def _plan(self, proposal: Proposal) -> tuple[Collected, list[frozenset[str]]]:
        """Asks the own peer first: what it simulated tells which policies count."""
        members = self._members()
        await at_one_height([endorser for endorser in members.values() if endorser.peer.endorses(proposal.called)])
        if not self._peer.serves(proposal.channel_id) or not self._peer.endorses(proposal.called):
            raise no_endorser(proposal)
        answer = await ask(self._home, proposal, seconds=self._endorsement_seconds)
        if isinstance(answer, Failure):
            text = "failed to endorse transaction, see attached details for more info"
            raise RpcError(Code.ABORTED, text, detail(self._home, answer.message))
        collected = Collected()
        collected.add(self._home, answer)
        return collected, own_layouts(self._home, answer, proposal, members, self._peer.access.policies)

    async def _collect(self, proposal: Proposal, layout: frozenset[str], collected: Collected) -> None:
        members = self._members()
        missing = [members[name] for name in sorted(layout) if name not in collected.endorsements and name in members]
        await at_one_height([self._home, *missing])
        waits = (ask(endorser, proposal, seconds=self._endorsement_seconds) for endorser in missing)
        answers = await asyncio.gather(*waits)
        for endorser, answer in zip(missing, answers, strict=True):
            collected.add(endorser, answer)

    async def submit(self, request: Any) -> Any:
        if not request.HasField("prepared_transaction"):
            raise RpcError(Code.INVALID_ARGUMENT, "a prepared transaction is required")
        if not request.prepared_transaction.signature:
            raise RpcError(Code.INVALID_ARGUMENT, "prepared transaction must be signed")
        self._require_channel(request.channel_id, Code.FAILED_PRECONDITION)
        try:
            await self._orderer.submit(request.prepared_transaction.SerializeToString())
        except BroadcastRefused as refused:
            name = common_pb2.Status.Name(refused.status)
            text = f"received unsuccessful response from orderer: status={name}, info={refused.info}"
            if 400 <= refused.status < 500:
                raise RpcError(Code.ABORTED, text) from refused
            raise RpcError(Code.UNAVAILABLE, "no orderers could successfully process transaction") from refused
        return gateway_pb2.SubmitResponse()

    async def commit_status(self, signed: Any) -> Any:
        if not signed.request:
            raise RpcError(Code.INVALID_ARGUMENT, "a commit status request is required")
        request = _request_of(gateway_pb2.CommitStatusRequest, signed.request, "invalid status request: ")
        for field, text in (
            (request.identity, "no identity provided"),
            (request.channel_id, "no channel ID provided"),
            (request.transaction_id, "transaction ID should not be empty"),
        ):
            if not field:
                raise RpcError(Code.INVALID_ARGUMENT, text)
        self._require_reader("gateway/CommitStatus", request, signed)
        try:
            committed = await self._peer.committed(request.transaction_id)
        except PeerStopped as error:
            raise RpcError(Code.ABORTED, "unexpected close of commit notification channel") from error
        return gateway_pb2.CommitStatusResponse(result=committed.code, block_number=committed.block)

    async def chaincode_events(self, signed: Any) -> AsyncIterator[Any]:
        if not signed.request:
            raise RpcError(Code.INVALID_ARGUMENT, "a chaincode events request is required")
        request = _request_of(gateway_pb2.ChaincodeEventsRequest, signed.request, "invalid chaincode events request: ")
        self._require_reader("gateway/ChaincodeEvents", request, signed)
        async for response in chaincode_events(self._peer.ledger, request):
            yield response

    def _require_channel(self, channel: str, code: grpc.StatusCode) -> None:
        if not self._peer.serves(channel):
            reason = f"could not get last config for channel {channel}"
            raise RpcError(code, f"failed to get config for channel [{channel}]: {reason}")

    def _require_reader(self, resource: str, request: Any, signed: Any) -> None:
        if not self._peer.serves(request.channel_id):
            text = f"Failed to get policy manager for channel [{request.channel_id}]"
            raise RpcError(Code.PERMISSION_DENIED, text)
        try:
            self._peer.access.check(resource, request.identity, signed.request, signed.signature)
        except AccessDenied as error:
            raise RpcError(Code.PERMISSION_DENIED, str(error)) from error


class GatewayService:
    """Gives a `Gateway` gRPC's shape."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def Evaluate(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802  protobuf's name
        try:
            return await self._gateway.evaluate(request)
        except RpcError as error:
            await abort(context, error)

    async def Endorse(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        try:
            return await self._gateway.endorse(request)
        except RpcError as error:
            await abort(context, error)

    async def Submit(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        try:
            return await self._gateway.submit(request)
        except RpcError as error:
            await abort(context, error)

    async def CommitStatus(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        try:
            return await self._gateway.commit_status(request)
        except RpcError as error:
            await abort(context, error)

    async def ChaincodeEvents(self, request: Any, context: ServicerContext) -> AsyncIterator[Any]:  # noqa: N802
        try:
            async for response in self._gateway.chaincode_events(request):
                yield response
        except RpcError as error:
            await abort(context, error)


def _proposal_of(request: Any, prefix: str) -> Proposal:
    """With a `prefix`, as for evaluation, the proposal must name a channel and a chaincode."""
    if not request.proposed_transaction.proposal_bytes:
        text = f"{prefix}a signed proposal is required" if prefix else _NO_PROPOSAL
        raise RpcError(Code.INVALID_ARGUMENT, text)
    try:
        return unpack(request.proposed_transaction, to_evaluate=bool(prefix))
    except MalformedMessage as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"{prefix}{error}") from error


_NO_PROPOSAL = "the proposed transaction must contain a signed proposal"


def _request_of(message: Any, encoded: bytes, prefix: str) -> Any:
    try:
        return decode(message, encoded)
    except MalformedMessage as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"{prefix}{error}") from error


async def _first_answer(candidates: list[Endorser], proposal: Proposal) -> Any:
    """The response of the first peer that gives one; a failure that another peer might not have moves on."""
    details, code = [], Code.UNAVAILABLE
    for endorser in candidates:
        answer = await ask(endorser, proposal, sign=False)
        if not isinstance(answer, Failure):
            return answer.response.response
        code = answer.code
        details.append(detail(endorser, answer.message))
        if not answer.elsewhere:
            raise RpcError(code, f"evaluate call to endorser returned error: {answer.message}", *details)
    raise RpcError(code, "failed to evaluate transaction, see attached details for more info", *details)


def _prepare(proposal: Proposal, layout: frozenset[str], collected: Collected) -> Any:
    """The unsigned envelope of the transaction: the proposal without transient data, and its endorsements."""
    action = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=proposal.public_payload,
        action=transaction_pb2.ChaincodeEndorsedAction(
            proposal_response_payload=collected.payload,
            endorsements=[collected.endorsements[member] for member in sorted(layout)],
        ),
    )
    transaction = transaction_pb2.Transaction(
        actions=[
            transaction_pb2.TransactionAction(
                header=proposal.header.signature_header, payload=action.SerializeToString()
            )
        ]
    )
    payload = common_pb2.Payload(header=proposal.header, data=transaction.SerializeToString())
    return common_pb2.Envelope(payload=payload.SerializeToString())
