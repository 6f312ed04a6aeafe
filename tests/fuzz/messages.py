"""The kinds of messages that clients send to a peer: how a valid one is made, who signs it, what a peer answered."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fuzz.layout import NESTED, Inapplicable, Nested, changed, value_at
from fuzz.recipes import Recipe, apply, operated
from google.protobuf.message import DecodeError
from hlf.crypto import sha256
from hlf.deliver import follow
from hlf.errors import validation_name
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support import raw_calls as raw
from support.devnet import MSP_IDS, Network
from support.transactions import BOTH

A, B = MSP_IDS
ACCEPTED: Final = frozenset({"OK", "VALID", "blocks", "events", "waits"})
"""Every other answer is a refusal. `waits`: no answer yet, as a stream that has nothing to send or a status to come."""
CALL_SECONDS = 20.0
WAIT_SECONDS = 0.4
"""After which a call that may wait for something is taken to do so."""
_ACTION: Final = "prepared_transaction.payload.data.actions[0].payload.action"


@dataclass
class Bench:
    """A network under test as a caller of hospital A sees it. `patience` lengthens WAIT_SECONDS."""

    network: Network
    gateway: Gateway
    channel: Any
    caller: SigningIdentity
    endorsers: list[SigningIdentity]
    patience: float = 1.0
    verdicts: dict[bytes, str] = field(default_factory=dict)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow_verdicts(self) -> None:
        """Notes the validation code of every transaction, by the hash of its payload."""
        async for block in follow(self.gateway, self.caller, self.network.channel):
            for content, transaction in zip(block.message.data.data, block.transactions, strict=True):
                with suppress(DecodeError):
                    payload = common_pb2.Envelope.FromString(content).payload
                    self.verdicts[sha256(payload)] = validation_name(transaction.validation_code)
            async with self.news:
                self.news.notify_all()

    async def verdict(self, payload: bytes) -> str:
        key = sha256(payload)
        try:
            async with asyncio.timeout(CALL_SECONDS), self.news:
                await self.news.wait_for(lambda: key in self.verdicts)
        except TimeoutError:
            return "never in a block"
        return self.verdicts[key]


@asynccontextmanager
async def bench_on(network: Network) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(network.gateway(A))
        channel = await stack.enter_async_context(network.endpoint(A).open_channel({}))
        endorsers = [network.member(msp_id, "endorser", role="peer") for msp_id in BOTH]
        bench = Bench(network, gateway, channel, network.member(A), endorsers)
        following = asyncio.create_task(bench.follow_verdicts())
        try:
            yield bench
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


Make = Callable[[Bench], Awaitable[bytes]]
Send = Callable[[Bench, bytes], Awaitable[str]]


@dataclass(frozen=True)
class Kind:
    """`signed` and `signature`: places of what the caller signs and of the signature."""

    message: Any
    make: Make
    send: Send
    signed: str
    signature: str
    nested: Nested = field(default_factory=lambda: NESTED)
    is_transaction: bool = False


async def prepared(bench: Bench, kind: Kind, recipe: Recipe) -> tuple[bytes, bytes]:
    """A new valid message, and the same after the recipe. Raises Inapplicable."""
    valid = await kind.make(bench)
    encoded = valid
    for edit in recipe.edits:
        encoded = apply(edit, kind.message, encoded, kind.nested)
    if recipe.sign == "everybody" and kind.is_transaction:
        encoded = _endorsed_again(bench, kind, encoded)
    if recipe.sign != "nobody":
        encoded = _signed_again(bench, kind, encoded)
    return valid, encoded


def is_signed_by_caller(kind: Kind, valid: bytes, encoded: bytes) -> bool:
    """Whether what a peer reads as signed and as signature is still what the caller made."""
    return _read(kind, valid) == _read(kind, encoded)


def _read(kind: Kind, encoded: bytes) -> list[Any]:
    """As a receiver decodes it: the last of repeated fields counts, unknown ones do not."""
    try:
        message = kind.message.FromString(encoded)
    except DecodeError:
        return []
    values = []
    for path in (kind.signed, kind.signature):
        value = message
        for name in path.split("."):
            value = getattr(value, name)
        values.append(value)
    return values


def _signed_again(bench: Bench, kind: Kind, encoded: bytes) -> bytes:
    with suppress(Inapplicable):
        content = value_at(kind.message, encoded, kind.signed, kind.nested)
        if isinstance(content, bytes):
            return _set(kind, encoded, kind.signature, bench.caller.sign(content))
    return encoded


def _endorsed_again(bench: Bench, kind: Kind, encoded: bytes) -> bytes:
    with suppress(Inapplicable):
        payload = value_at(kind.message, encoded, f"{_ACTION}.proposal_response_payload", kind.nested)
        if isinstance(payload, bytes):
            for index, endorser in enumerate(bench.endorsers):
                place = f"{_ACTION}.endorsements[{index}]"
                encoded = _set(kind, encoded, f"{place}.endorser", endorser.serialized)
                encoded = _set(kind, encoded, f"{place}.signature", endorser.sign(payload + endorser.serialized))
    return encoded


def _set(kind: Kind, encoded: bytes, path: str, value: bytes) -> bytes:
    return changed(kind.message, encoded, path, kind.nested, lambda place: operated(place, "set", [value]))


def new_key() -> str:
    return f"f-{secrets.token_hex(8)}"


async def _proposal(bench: Bench) -> bytes:
    return bytes(raw.proposal(bench.caller, "put", new_key(), "v").SerializeToString())


async def _evaluate(bench: Bench) -> bytes:
    request = raw.evaluate(raw.proposal(bench.caller, "get", new_key()), [A])
    return bytes(request.SerializeToString())


async def _endorse(bench: Bench) -> bytes:
    request = raw.endorse(raw.proposal(bench.caller, "put", new_key(), "v"), BOTH)
    return bytes(request.SerializeToString())


def _transaction(*call: str) -> Make:
    async def make(bench: Bench) -> bytes:
        key = new_key()
        contract = bench.gateway.contract(bench.caller, bench.network.channel, bench.network.chaincode)
        arguments = [argument.replace("KEY", key) for argument in call]
        endorsed = await contract.propose(*arguments, endorsing_organizations=BOTH).endorse()
        envelope = gateway_pb2.PreparedTransaction.FromString(endorsed.bytes).envelope
        envelope.signature = bench.caller.sign(envelope.payload)
        request = gateway_pb2.SubmitRequest(channel_id=bench.network.channel, prepared_transaction=envelope)
        return bytes(request.SerializeToString())

    return make


async def _commit_status(bench: Bench) -> bytes:
    return bytes(raw.commit_status(bench.caller, "0" * 64).SerializeToString())


async def _events(bench: Bench) -> bytes:
    request = gateway_pb2.ChaincodeEventsRequest(
        channel_id=bench.network.channel, chaincode_id=bench.network.chaincode, identity=bench.caller.serialized
    )
    request.start_position.specified.number = 0
    content = request.SerializeToString()
    signed = gateway_pb2.SignedChaincodeEventsRequest(request=content, signature=bench.caller.sign(content))
    return bytes(signed.SerializeToString())


async def _seek(bench: Bench) -> bytes:
    return bytes(raw.seek(bench.caller, 0, 1).SerializeToString())


def _unary(method: str, answer: Callable[[Bench, bytes, bytes], Awaitable[str]], *, waits: bool = False) -> Send:
    async def send(bench: Bench, encoded: bytes) -> str:
        call = bench.channel.unary_unary(method)
        try:
            response = await call(encoded, timeout=WAIT_SECONDS * bench.patience if waits else CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            return told(error, waits=waits)
        return await answer(bench, encoded, response)

    return send


def _stream(method: str, answer: Callable[[bytes], str], *, streams_requests: bool) -> Send:
    async def send(bench: Bench, encoded: bytes) -> str:
        open_ = bench.channel.stream_stream if streams_requests else bench.channel.unary_stream
        call = open_(method)(iter([encoded]) if streams_requests else encoded)
        try:
            async with asyncio.timeout(WAIT_SECONDS * bench.patience):
                response = await call.read()
        except TimeoutError:
            return "waits"
        except grpc.aio.AioRpcError as error:
            return told(error)
        finally:
            call.cancel()
        if isinstance(response, bytes):
            return answer(response)
        return "stream ended"

    return send


def told(error: grpc.aio.AioRpcError, *, waits: bool = False) -> str:
    """The code. A devnet that failed inside is told from one that refused: grpcio then names an exception's class."""
    if waits and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "waits"
    details = error.details() or ""
    if "Unexpected <class" in details:
        return f"broken: {details}"
    return error.code().name


async def _ok(bench: Bench, request: bytes, response: bytes) -> str:
    return "OK"


async def _processed(bench: Bench, request: bytes, response: bytes) -> str:
    status = proposal_response_pb2.ProposalResponse.FromString(response).response.status
    return "OK" if status < 400 else f"status {status}"


async def _judged(bench: Bench, request: bytes, response: bytes) -> str:
    return await bench.verdict(gateway_pb2.SubmitRequest.FromString(request).prepared_transaction.payload)


def _delivered(response: bytes) -> str:
    answer = events_pb2.DeliverResponse.FromString(response)
    return common_pb2.Status.Name(answer.status) if answer.WhichOneof("Type") == "status" else "blocks"


def _transaction_kind(*call: str) -> Kind:
    nested = {**NESTED, "Payload.data": transaction_pb2.Transaction}
    signed, signature = "prepared_transaction.payload", "prepared_transaction.signature"
    send = _unary("/gateway.Gateway/Submit", _judged)
    return Kind(gateway_pb2.SubmitRequest, _transaction(*call), send, signed, signature, nested, is_transaction=True)


def _proposed(message: Any, make: Make, method: str, **options: Any) -> Kind:
    signed, signature = "proposed_transaction.proposal_bytes", "proposed_transaction.signature"
    return Kind(message, make, _unary(method, _ok, **options), signed, signature)


KINDS: Final = {
    "evaluate": _proposed(gateway_pb2.EvaluateRequest, _evaluate, "/gateway.Gateway/Evaluate"),
    "endorse": _proposed(gateway_pb2.EndorseRequest, _endorse, "/gateway.Gateway/Endorse"),
    "proposal": Kind(
        proposal_pb2.SignedProposal,
        _proposal,
        _unary("/protos.Endorser/ProcessProposal", _processed),
        "proposal_bytes",
        "signature",
    ),
    "submit": _transaction_kind("emit", "KEY", "happened", "payload"),
    "submit-range": _transaction_kind("range_then_put", "KEY", "KEY~", "KEY"),
    "commit-status": Kind(
        gateway_pb2.SignedCommitStatusRequest,
        _commit_status,
        _unary("/gateway.Gateway/CommitStatus", _ok, waits=True),
        "request",
        "signature",
        {**NESTED, "SignedCommitStatusRequest.request": gateway_pb2.CommitStatusRequest},
    ),
    "events": Kind(
        gateway_pb2.SignedChaincodeEventsRequest,
        _events,
        _stream("/gateway.Gateway/ChaincodeEvents", lambda _: "events", streams_requests=False),
        "request",
        "signature",
        {**NESTED, "SignedChaincodeEventsRequest.request": gateway_pb2.ChaincodeEventsRequest},
    ),
    "seek": Kind(
        common_pb2.Envelope,
        _seek,
        _stream("/protos.Deliver/Deliver", _delivered, streams_requests=True),
        "payload",
        "signature",
        {**NESTED, "Payload.data": ab_pb2.SeekInfo},
    ),
}
