"""One stream to one peer: registration, then many transactions at once.

The protocol is `protos.Chaincode/Connect` (fabric-protos `peer/chaincode_shim.proto`; the peer's side is
`core/chaincode/handler.go`): the chaincode sends REGISTER, the peer REGISTERED and READY; after that each TRANSACTION
or INIT is answered with COMPLETED or ERROR, and in between the chaincode's state requests with RESPONSE or ERROR.
Messages of one transaction carry its channel and id; the peer handles one request a transaction at a time.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fabric_protos.peer import chaincode_pb2, proposal_response_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from google.protobuf.message import DecodeError

from hlf.chaincode.errors import ContractError, PeerRefused, ProtocolViolation, StreamClosed
from hlf.chaincode.requests import MessageType, Request
from hlf.chaincode.response import INTERNAL_ERROR, OK, Chaincode, Response
from hlf.chaincode.stub import Stub

logger = logging.getLogger(__name__)

SMALLEST_BATCH = 100
"""A peer that takes batches takes at least as many (the official shim's assumption)."""

_REGISTER = MessageType.Value("REGISTER")
_REGISTERED = MessageType.Value("REGISTERED")
_READY = MessageType.Value("READY")
_INIT = MessageType.Value("INIT")
_TRANSACTION = MessageType.Value("TRANSACTION")
_COMPLETED = MessageType.Value("COMPLETED")
_ERROR = MessageType.Value("ERROR")
_RESPONSE = MessageType.Value("RESPONSE")
_KEEPALIVE = MessageType.Value("KEEPALIVE")

TransactionKey = tuple[str, str]


class Session:
    """Serves one stream. `send` must take messages in the order of the calls."""

    def __init__(
        self,
        chaincode: Chaincode,
        chaincode_id: str,
        send: Callable[[bytes], Awaitable[None]],
        transaction_timeout_seconds: float,
    ) -> None:
        self.write_batch_size: int | None = None
        self.multiple_keys: int | None = None
        self._chaincode = chaincode
        self._chaincode_id = chaincode_id
        self._send_bytes = send
        self._transaction_timeout_seconds = transaction_timeout_seconds
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting: dict[TransactionKey, asyncio.Future[ChaincodeMessage]] = {}
        self._running: dict[TransactionKey, asyncio.Task[None]] = {}
        self._expected: int | None = _REGISTERED
        self._draining = asyncio.Event()

    async def run(self, incoming: AsyncIterator[bytes]) -> None:
        """Until the peer ends the stream or `drain` is done. Raises `ProtocolViolation`."""
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read(incoming))
        drained = asyncio.create_task(self._drained())
        try:
            self._send(ChaincodeMessage(type=_REGISTER, payload=self._registration()))
            await asyncio.wait((writer, reader, drained), return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()
        finally:
            await self._close(writer, reader, drained)

    def drain(self) -> None:
        """Takes no more transactions; `run` returns when those at work have been answered."""
        self._draining.set()

    async def request(self, channel: str, transaction_id: str, request: Request) -> bytes:
        """Raises `PeerRefused`; `StreamClosed` when the stream ends before the answer."""
        key = (channel, transaction_id)
        if key in self._waiting:
            raise ProtocolViolation("a transaction has one request at a time")
        answer: asyncio.Future[ChaincodeMessage] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            self._send(
                ChaincodeMessage(type=request.type, payload=request.payload, txid=transaction_id, channel_id=channel)
            )
            message = await answer
        finally:
            del self._waiting[key]
        if message.type == _ERROR:
            raise PeerRefused(request.name, message.payload.decode(errors="replace"))
        return bytes(message.payload)

    def _registration(self) -> bytes:
        return bytes(chaincode_pb2.ChaincodeID(name=self._chaincode_id).SerializeToString())

    # The stream

    def _send(self, message: ChaincodeMessage) -> None:
        self._outgoing.put_nowait(message.SerializeToString())

    async def _write(self) -> None:
        while (message := await self._outgoing.get()) is not None:
            await self._send_bytes(message)

    async def _read(self, incoming: AsyncIterator[bytes]) -> None:
        async for received in incoming:
            try:
                message = ChaincodeMessage.FromString(received)
            except DecodeError as error:
                raise ProtocolViolation("the peer sent what is not a chaincode message") from error
            self._receive(message)

    async def _drained(self) -> None:
        await self._draining.wait()
        while self._running:
            await asyncio.wait(tuple(self._running.values()))

    async def _close(self, writer: asyncio.Task[None], reader: asyncio.Task[None], drained: asyncio.Task[None]) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(StreamClosed("the stream to the peer has ended"))
        at_work = [reader, drained, *self._running.values()]
        for task in at_work:
            task.cancel()
        self._outgoing.put_nowait(None)
        await asyncio.gather(*at_work, writer, return_exceptions=True)

    def _receive(self, message: ChaincodeMessage) -> None:
        kind = message.type
        if kind == _KEEPALIVE:
            self._send(message)
        elif self._expected is not None:
            self._register(message)
        elif kind in (_RESPONSE, _ERROR):
            self._answer(message)
        elif kind in (_TRANSACTION, _INIT):
            self._start(message)
        else:
            logger.warning("the peer sent a message of a type that chaincode does not know: %d", kind)

    def _register(self, message: ChaincodeMessage) -> None:
        if message.type != self._expected:
            raise ProtocolViolation(f"the peer sent {_name(message)} instead of {MessageType.Name(self._expected)}")
        self._expected = _READY if message.type == _REGISTERED else None
        if message.type == _READY:
            self._read_offers(message.payload)
            logger.info("chaincode %s is ready for a peer", self._chaincode_id)

    def _read_offers(self, payload: bytes) -> None:
        try:
            offers = chaincode_pb2.ChaincodeAdditionalParams.FromString(payload)
        except DecodeError as error:
            raise ProtocolViolation("the peer's READY cannot be read") from error
        if offers.use_write_batch:
            self.write_batch_size = max(offers.max_size_write_batch, SMALLEST_BATCH)
        if offers.use_get_multiple_keys:
            self.multiple_keys = max(offers.max_size_get_multiple_keys, SMALLEST_BATCH)

    def _answer(self, message: ChaincodeMessage) -> None:
        waiting = self._waiting.get((message.channel_id, message.txid))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    # Transactions

    def _start(self, message: ChaincodeMessage) -> None:
        key = (message.channel_id, message.txid)
        if self._draining.is_set() or key in self._running:
            text = "the chaincode is stopping" if self._draining.is_set() else "the transaction is at work already"
            self._send(self._failed(message, text))
            return
        task = asyncio.create_task(self._execute(message))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    async def _execute(self, message: ChaincodeMessage) -> None:
        try:
            call = chaincode_pb2.ChaincodeInput.FromString(message.payload)
        except DecodeError:
            self._send(self._failed(message, "the transaction's input cannot be read"))
            return
        proposal = message.proposal if message.HasField("proposal") else None
        stub = Stub(self, message.channel_id, message.txid, call, proposal)
        response = await self._respond(stub, is_init=message.type == _INIT)
        answer = proposal_response_pb2.Response(
            status=response.status, message=response.message, payload=response.payload
        )
        self._send(
            ChaincodeMessage(
                type=_COMPLETED,
                payload=answer.SerializeToString(),
                txid=message.txid,
                channel_id=message.channel_id,
                chaincode_event=stub.event if response.is_success else None,
            )
        )

    async def _respond(self, stub: Stub, *, is_init: bool) -> Response:
        try:
            async with asyncio.timeout(self._transaction_timeout_seconds):
                response = await (self._init(stub) if is_init else self._chaincode.invoke(stub))
                if response.is_success:
                    await stub.flush()
                return response
        except ContractError as refusal:
            return Response(refusal.status, str(refusal))
        except Exception as error:  # a transaction that fails must fail alone
            _log_failure(stub, error)
            return Response(INTERNAL_ERROR, f"the chaincode failed: {type(error).__name__}")

    async def _init(self, stub: Stub) -> Response:
        init: Callable[[Stub], Awaitable[Response]] | None = getattr(self._chaincode, "init", None)
        return await init(stub) if init else Response(OK)

    def _failed(self, message: ChaincodeMessage, text: str) -> ChaincodeMessage:
        return ChaincodeMessage(type=_ERROR, payload=text.encode(), txid=message.txid, channel_id=message.channel_id)


def _name(message: Any) -> str:
    try:
        return str(MessageType.Name(message.type))
    except ValueError:
        return f"type {message.type}"


def _log_failure(stub: Stub, error: Exception) -> None:
    """Where it failed, and never why in words: the text of an exception can hold arguments or state."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("transaction %s failed with %s\n%s", stub.tx_id, type(error).__name__, where)
