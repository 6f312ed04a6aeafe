"""Changed messages from a chaincode to its peer: a chaincode server whose every message the fuzzer writes.

For each recipe the peer is asked for an evaluation; while it runs, the changed message is sent, and afterwards a valid
COMPLETED, so that the next evaluation finds everything as before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import grpc
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from fuzz.layout import NESTED, Nested
from fuzz.messages import WAIT_SECONDS, Bench, new_key, told
from fuzz.recipes import Recipe, apply
from support import raw_calls as raw
from support.devnet import Network

ACCEPTED: Final = frozenset({"RESPONSE", "nothing", "OK"})
"""Every other answer is a refusal. `nothing`: the peer took no notice."""
REGISTER_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 0.1


@dataclass(frozen=True)
class ChaincodeKind:
    """`payload`: of the message of `type` that a chaincode sends. `inner`: its class."""

    type: int
    payload: Callable[[str], Any]
    inner: Any

    @property
    def nested(self) -> Nested:
        return {**NESTED, "ChaincodeMessage.payload": self.inner}

    def make(self, transaction_id: str) -> bytes:
        message = ChaincodeMessage(
            type=self.type,
            payload=self.payload(new_key()).SerializeToString(),
            txid=transaction_id,
            channel_id="care",
        )
        return bytes(message.SerializeToString())


Type = ChaincodeMessage.Type
CHAINCODE_KINDS: Final = {
    "chaincode-get": ChaincodeKind(
        Type.Value("GET_STATE"), lambda key: chaincode_shim_pb2.GetState(key=key), chaincode_shim_pb2.GetState
    ),
    "chaincode-put": ChaincodeKind(
        Type.Value("PUT_STATE"),
        lambda key: chaincode_shim_pb2.PutState(key=key, value=b"v"),
        chaincode_shim_pb2.PutState,
    ),
    "chaincode-range": ChaincodeKind(
        Type.Value("GET_STATE_BY_RANGE"),
        lambda key: chaincode_shim_pb2.GetStateByRange(startKey=key, endKey=f"{key}~"),
        chaincode_shim_pb2.GetStateByRange,
    ),
    "chaincode-metadata": ChaincodeKind(
        Type.Value("GET_STATE_METADATA"),
        lambda key: chaincode_shim_pb2.GetStateMetadata(key=key),
        chaincode_shim_pb2.GetStateMetadata,
    ),
    "chaincode-completed": ChaincodeKind(
        Type.Value("COMPLETED"),
        lambda key: proposal_response_pb2.Response(status=200, payload=key.encode()),
        proposal_response_pb2.Response,
    ),
}


class Heard(NamedTuple):
    """`message` is None when the stream has ended."""

    stream: int
    message: Any


@dataclass
class FuzzedChaincode:
    """What a peer connects to, at a hospital's chaincode address. Streams are numbered."""

    chaincode_id: str
    streams: int = 0
    heard: asyncio.Queue[Heard] = field(default_factory=asyncio.Queue)
    outgoing: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def connect(self, messages: AsyncIterator[bytes], context: Any) -> None:
        """One stream, until the peer ends it."""
        name = chaincode_pb2.ChaincodeID(name=self.chaincode_id).SerializeToString()
        await context.write(ChaincodeMessage(type=Type.Value("REGISTER"), payload=name).SerializeToString())
        self.streams += 1
        number, self.outgoing = self.streams, asyncio.Queue()
        writing = asyncio.create_task(self._write(context, self.outgoing))
        try:
            async for encoded in messages:
                self.heard.put_nowait(Heard(number, ChaincodeMessage.FromString(encoded)))
        finally:
            writing.cancel()
            self.heard.put_nowait(Heard(number, None))

    async def _write(self, context: Any, outgoing: asyncio.Queue[bytes]) -> None:
        while True:
            await context.write(await outgoing.get())

    async def answer_to(self, bench: Bench, recipe: Recipe) -> str:
        """RESPONSE, ERROR, nothing, stream ended; or how an evaluation ended that the message completed."""
        kind = CHAINCODE_KINDS[recipe.kind]
        evaluation, transaction = await self.running_evaluation(bench)
        try:
            encoded = kind.make(transaction.message.txid)
            for edit in recipe.edits:
                encoded = apply(edit, ChaincodeMessage, encoded, kind.nested)
            self.outgoing.put_nowait(encoded)
            return await self._noticed(bench, evaluation, transaction.stream)
        finally:
            self._complete(transaction.message.txid)
            await evaluation

    async def running_evaluation(self, bench: Bench) -> tuple["asyncio.Task[str]", Heard]:
        """And its transaction. After a stream has ended, the peer may need more than one attempt."""
        async with asyncio.timeout(REGISTER_SECONDS):
            while True:
                self.heard = asyncio.Queue()
                evaluation = asyncio.create_task(self._evaluation(bench))
                hearing = asyncio.create_task(self._next("TRANSACTION"))
                await asyncio.wait({hearing, evaluation}, return_when=asyncio.FIRST_COMPLETED)
                if hearing.done():
                    return evaluation, hearing.result()
                hearing.cancel()

    async def _next(self, *types: str, stream: int | None = None) -> Heard:
        """The next message of one of `types`; of `stream`, its end as well. What else comes is passed over."""
        while True:
            heard = await self.heard.get()
            if heard.message is None:
                if heard.stream == stream:
                    return heard
            elif Type.Name(heard.message.type) in types:
                return heard

    async def _noticed(self, bench: Bench, evaluation: "asyncio.Task[str]", stream: int) -> str:
        hearing = asyncio.create_task(self._next("RESPONSE", "ERROR", stream=stream))
        seconds = WAIT_SECONDS * bench.patience
        await asyncio.wait({hearing, evaluation}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if evaluation.done() and not hearing.done():  # when the peer ends a stream, its transactions may fail first
            await asyncio.wait({hearing}, timeout=SETTLE_SECONDS)
        if hearing.done():
            message = hearing.result().message
            return "stream ended" if message is None else str(Type.Name(message.type))
        hearing.cancel()
        return evaluation.result() if evaluation.done() else "nothing"

    def _complete(self, transaction_id: str) -> None:
        done = ChaincodeMessage(
            type=Type.Value("COMPLETED"),
            payload=proposal_response_pb2.Response(status=200).SerializeToString(),
            txid=transaction_id,
            channel_id="care",
        )
        self.outgoing.put_nowait(done.SerializeToString())

    async def _evaluation(self, bench: Bench) -> str:
        request = raw.evaluate(raw.proposal(bench.caller, "fuzzed"), ["HospitalA"])
        try:
            await bench.channel.unary_unary("/gateway.Gateway/Evaluate")(request.SerializeToString(), timeout=90)
        except grpc.aio.AioRpcError as error:
            return told(error)
        return "OK"


@asynccontextmanager
async def fuzzed_chaincode(network: Network) -> AsyncIterator[FuzzedChaincode]:
    """In the place of hospital A's chaincode, which is stopped."""
    await network.stop_chaincode("HospitalA")
    package_ids = getattr(network, "package_ids", None)
    chaincode = FuzzedChaincode(package_ids["HospitalA"] if package_ids else f"{network.chaincode}:1")
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    method = grpc.stream_stream_rpc_method_handler(chaincode.connect)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("protos.Chaincode", {"Connect": method})])
    server.add_insecure_port(network.members["HospitalA"].chaincode_address)
    await server.start()
    try:
        yield chaincode
    finally:
        await server.stop(0)
        await network.start_chaincode("HospitalA")
