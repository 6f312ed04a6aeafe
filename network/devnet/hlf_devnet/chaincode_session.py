"""The peer's side of one stream with a chaincode.

REGISTER comes from the chaincode, REGISTERED and READY go back, then any number of transactions at once: for each a
TRANSACTION message, state requests of the chaincode, and COMPLETED or ERROR. A failure in one transaction fails that
one; when the stream breaks, all of its transactions fail.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from fabric_protos.peer import chaincode_pb2
from google.protobuf.message import DecodeError

from hlf_devnet import chaincode_messages as messages
from hlf_devnet.chaincode_messages import ChaincodeMessage, Kind

logger = logging.getLogger(__name__)

_STATE_REQUESTS: Final = frozenset(
    {
        Kind.GET_STATE,
        Kind.PUT_STATE,
        Kind.DEL_STATE,
        Kind.INVOKE_CHAINCODE,
        Kind.GET_STATE_BY_RANGE,
        Kind.GET_QUERY_RESULT,
        Kind.QUERY_STATE_NEXT,
        Kind.QUERY_STATE_CLOSE,
        Kind.GET_HISTORY_FOR_KEY,
        Kind.GET_STATE_METADATA,
        Kind.PUT_STATE_METADATA,
        Kind.GET_PRIVATE_DATA_HASH,
        Kind.PURGE_PRIVATE_DATA,
        Kind.WRITE_BATCH_STATE,
        Kind.GET_STATE_MULTIPLE,
    }
)


class ChaincodeError(Exception):
    """A transaction did not end with an answer of the chaincode; the text is worded as a Fabric peer's."""


class StreamTerminated(ChaincodeError):
    """The chaincode went away while it ran the transaction."""


class ProtocolViolation(Exception):
    """The chaincode sent something that ends its stream."""


class RequestRefused(Exception):
    """A state request cannot be answered; the chaincode gets the text, worded as a Fabric peer's."""


class TransactionContext(Protocol):
    """What the stream must know of the transaction that a chaincode runs."""

    @property
    def channel_id(self) -> str: ...
    @property
    def transaction_id(self) -> str: ...


Context = TypeVar("Context", bound=TransactionContext)
Answer = Callable[[ChaincodeMessage, Context], "bytes | Awaitable[bytes]"]
"""Answers a state request: the payload of the RESPONSE, at once or (chaincode to chaincode) later. What it raises
becomes an ERROR message for that transaction alone."""


class _Execution(Generic[Context]):
    def __init__(self, context: Context) -> None:
        self.context = context
        self.outcome: asyncio.Future[ChaincodeMessage] = asyncio.get_running_loop().create_future()
        self.waiting: asyncio.Task[None] | None = None


class Session(Generic[Context]):
    """One stream. `send` takes a serialized message; `receive` is given each one that comes."""

    def __init__(
        self, answer: Answer[Context], on_ready: Callable[["Session[Context]"], None], send: Callable[[bytes], None]
    ) -> None:
        self._answer = answer
        self._on_ready = on_ready
        self._send = send
        self._is_ready = False
        self._executions: dict[tuple[str, str], _Execution[Context]] = {}

    def terminate(self) -> None:
        """The stream is over: every transaction on it fails."""
        for execution in self._executions.values():
            if execution.waiting is not None:
                execution.waiting.cancel()
            if not execution.outcome.done():
                execution.outcome.set_exception(StreamTerminated("error sending: chaincode stream terminated"))
        self._executions.clear()

    async def execute(self, context: Context, message: ChaincodeMessage, timeout_seconds: float) -> ChaincodeMessage:
        key = (context.channel_id, context.transaction_id)
        if key in self._executions:
            raise ChaincodeError(f"error sending: txid: {context.transaction_id}({context.channel_id}) exists")
        execution = self._executions[key] = _Execution(context)
        try:
            self._send(message.SerializeToString())
            async with asyncio.timeout(timeout_seconds):
                return await execution.outcome
        except TimeoutError as error:
            raise ChaincodeError("error sending: timeout expired while executing transaction") from error
        finally:
            self._executions.pop(key, None)
            if execution.waiting is not None:
                execution.waiting.cancel()

    def receive(self, encoded: bytes) -> None:
        """Raises ProtocolViolation, after which the stream has to be ended."""
        try:
            message = Kind.FromString(encoded)
        except DecodeError as error:
            raise ProtocolViolation("received something that is no ChaincodeMessage") from error
        kind = message.type
        if kind == Kind.KEEPALIVE:
            return
        if not self._is_ready:
            self._register(message)
        elif kind in (Kind.COMPLETED, Kind.ERROR):
            execution = self._executions.get((message.channel_id, message.txid))
            if execution is not None and not execution.outcome.done():
                execution.outcome.set_result(message)
        elif kind in _STATE_REQUESTS:
            self._serve(message)
        else:
            raise ProtocolViolation(f"cannot handle message ({_name(kind)}) while in ready state")

    def _register(self, message: ChaincodeMessage) -> None:
        if message.type != Kind.REGISTER:
            raise ProtocolViolation(f"cannot handle message ({_name(message.type)}) while in created state")
        try:
            name = chaincode_pb2.ChaincodeID.FromString(message.payload).name
        except DecodeError as error:
            raise ProtocolViolation("could not unmarshal registration info") from error
        if not name:
            raise ProtocolViolation("error in handling register chaincode, chaincodeID name is empty")
        self._send(messages.registered().SerializeToString())
        self._send(messages.ready().SerializeToString())
        self._is_ready = True
        self._on_ready(self)

    def _serve(self, request: ChaincodeMessage) -> None:
        execution = self._executions.get((request.channel_id, request.txid))
        if execution is None:
            failure = f"{_name(request.type)} failed: transaction ID: {request.txid}: no ledger context"
            self._send(messages.error(request, failure).SerializeToString())
            return
        if execution.waiting is not None:
            logger.error("dropped a request: another one of the same transaction is open")
            return
        try:
            payload = self._answer(request, execution.context)
        except Exception as error:  # whatever fails, fails this transaction and no other
            self._refuse(request, error)
            return
        if isinstance(payload, bytes):
            self._send(messages.response(request, payload).SerializeToString())
        else:
            execution.waiting = asyncio.create_task(self._serve_later(request, execution, payload))

    async def _serve_later(
        self, request: ChaincodeMessage, execution: _Execution[Context], answer: Awaitable[bytes]
    ) -> None:
        try:
            reply = messages.response(request, await answer)
        except Exception as error:  # as in _serve
            self._refuse(request, error)
        else:
            self._send(reply.SerializeToString())
        finally:
            execution.waiting = None

    def _refuse(self, request: ChaincodeMessage, error: Exception) -> None:
        kind = _name(request.type)
        if not isinstance(error, RequestRefused):
            logger.error("a %s failed inside the peer", kind, exc_info=error)
            error = RequestRefused("panic during execution")
        text = f"{kind} failed: transaction ID: {request.txid}: {error}"
        self._send(messages.error(request, text).SerializeToString())


def _name(kind: int) -> str:
    """A chaincode may send any number for a type."""
    return str(Kind.Type.Name(kind)) if kind in Kind.Type.values() else str(kind)
