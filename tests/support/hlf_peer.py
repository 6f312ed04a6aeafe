"""A peer's wire side whose failures a test chooses: gateway and deliver services on 127.0.0.1, in this process.

It does what it is told and checks nothing: what a peer decides is tested on devnet and on official peers.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2, events_pb2_grpc, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2
from hlf.gateway import Endpoint, Gateway, Timeouts
from support.hlf_blocks import filtered

Answer = Callable[[Any, Any], Awaitable[Any]]


class ScriptedPeer(gateway_pb2_grpc.GatewayServicer, events_pb2_grpc.DeliverServicer):  # type: ignore[misc]
    """`script[method]` holds answers for the next calls; when it is used up, calls succeed. `calls` records them."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.blocks: list[Any] = []
        self.transaction_ids: dict[int, Sequence[str]] = {}
        self.seeks: list[Any] = []
        self.grown = asyncio.Condition()
        self.port = 0
        self._server: Any = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"127.0.0.1:{self.port}", None)

    async def start(self) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        gateway_pb2_grpc.add_GatewayServicer_to_server(self, self._server)
        events_pb2_grpc.add_DeliverServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Breaks off everything that is open. `start` brings it back on the same port."""
        await self._server.stop(0)

    def count(self, method: str) -> int:
        return sum(1 for name, _ in self.calls if name == method)

    async def Evaluate(self, request: Any, context: Any) -> Any:
        return await self._answer("Evaluate", request, context, evaluated)

    async def Endorse(self, request: Any, context: Any) -> Any:
        return await self._answer("Endorse", request, context, endorsed)

    async def Submit(self, request: Any, context: Any) -> Any:
        return await self._answer("Submit", request, context, submitted)

    async def CommitStatus(self, request: Any, context: Any) -> Any:
        return await self._answer("CommitStatus", request, context, committed)

    async def _answer(self, method: str, request: Any, context: Any, otherwise: Answer) -> Any:
        self.calls.append((method, request))
        planned = self.script.get(method, [])
        return await (planned.pop(0) if planned else otherwise)(request, context)

    async def add_block(self, block: Any, transaction_ids: Sequence[str]) -> None:
        async with self.grown:
            self.blocks.append(block)
            self.transaction_ids[block.header.number] = transaction_ids
            self.grown.notify_all()

    async def Deliver(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for block in self._stream("Deliver", requests, context):
            is_status = isinstance(block, int)
            yield events_pb2.DeliverResponse(status=block) if is_status else events_pb2.DeliverResponse(block=block)

    async def DeliverFiltered(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for block in self._stream("DeliverFiltered", requests, context):
            if isinstance(block, int):
                yield events_pb2.DeliverResponse(status=block)
            else:
                ids = self.transaction_ids[block.header.number]
                yield events_pb2.DeliverResponse(filtered_block=filtered(block, ids))

    async def DeliverWithPrivateData(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Without any."""
        async for block in self._stream("DeliverWithPrivateData", requests, context):
            if isinstance(block, int):
                yield events_pb2.DeliverResponse(status=block)
            else:
                whole = events_pb2.BlockAndPrivateData(block=block)
                yield events_pb2.DeliverResponse(block_and_private_data=whole)

    async def _stream(self, method: str, requests: Any, context: Any) -> AsyncIterator[Any]:
        envelope = await anext(aiter(requests))
        payload = common_pb2.Payload.FromString(envelope.payload)
        seek = ab_pb2.SeekInfo.FromString(payload.data)
        self.calls.append((method, seek))
        if planned := self.script.get(method, []):
            outcome = await planned.pop(0)(seek, context)
            if outcome is not None:
                yield outcome
                return
        position = seek.start.specified.number if seek.start.HasField("specified") else len(self.blocks) - 1
        while position <= seek.stop.specified.number:
            async with self.grown:
                while position >= len(self.blocks):
                    await self.grown.wait()
            yield self.blocks[position]
            position += 1
        yield int(common_pb2.SUCCESS)


@asynccontextmanager
async def scripted_peer() -> AsyncIterator[ScriptedPeer]:
    peer = ScriptedPeer()
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


@asynccontextmanager
async def gateway_to(*peers: ScriptedPeer, **timeouts: float) -> AsyncIterator[Gateway]:
    options = {"grpc.max_reconnect_backoff_ms": 100, "grpc.min_reconnect_backoff_ms": 50}
    limits = Timeouts(**{"connect": 2.0, **timeouts})
    async with Gateway([peer.endpoint for peer in peers], limits, channel_options=options) as gateway:
        yield gateway


async def evaluated(request: Any, context: Any) -> Any:
    response = gateway_pb2.EvaluateResponse()
    response.result.status = 200
    response.result.payload = b"answer"
    return response


async def endorsed(request: Any, context: Any) -> Any:
    proposal = proposal_pb2.Proposal.FromString(request.proposed_transaction.proposal_bytes)
    action = proposal_pb2.ChaincodeAction()
    action.response.payload = b"result"
    response = proposal_response_pb2.ProposalResponsePayload(extension=action.SerializeToString())
    payload = transaction_pb2.ChaincodeActionPayload()
    payload.action.proposal_response_payload = response.SerializeToString()
    transaction = transaction_pb2.Transaction(
        actions=[transaction_pb2.TransactionAction(payload=payload.SerializeToString())]
    )
    message = common_pb2.Payload(
        header=common_pb2.Header.FromString(proposal.header), data=transaction.SerializeToString()
    )
    return gateway_pb2.EndorseResponse(prepared_transaction=common_pb2.Envelope(payload=message.SerializeToString()))


async def submitted(request: Any, context: Any) -> Any:
    return gateway_pb2.SubmitResponse()


async def committed(request: Any, context: Any) -> Any:
    return gateway_pb2.CommitStatusResponse(result=0, block_number=7)


def failing(code: grpc.StatusCode, message: str, *details: tuple[str, str, str]) -> Answer:
    """Fails as a gateway does, with the given (address, MSP id, message) details."""

    async def answer(request: Any, context: Any) -> Any:
        if details:
            context.set_trailing_metadata((("grpc-status-details-bin", _status(code, message, details)),))
        await context.abort(code, message)

    return answer


def hanging(seconds: float = 60) -> Answer:
    async def answer(request: Any, context: Any) -> Any:
        await asyncio.sleep(seconds)

    return answer


def _status(code: grpc.StatusCode, message: str, details: Sequence[tuple[str, str, str]]) -> bytes:
    packed = []
    for address, msp_id, text in details:
        detail = any_pb2.Any()
        detail.Pack(gateway_pb2.ErrorDetail(address=address, msp_id=msp_id, message=text))
        packed.append(detail)
    return bytes(status_pb2.Status(code=code.value[0], message=message, details=packed).SerializeToString())
