"""The peer's side of the chaincode stream, against a chaincode server whose every message the test writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from fabric_protos.peer import chaincode_pb2
from hlf_devnet.chaincode_messages import ChaincodeAdditionalParams, Kind
from hlf_devnet.chaincode_session import ChaincodeError, RequestRefused, StreamTerminated
from hlf_devnet.chaincode_stream import ChaincodeClient
from support.ports import free_address


@dataclass(frozen=True)
class Context:
    transaction_id: str
    channel_id: str = "care"


class ScriptedChaincode:
    """Sends REGISTER as soon as a peer connects; the test reads and writes the rest."""

    def __init__(self, address: str, first: Any | None = None) -> None:
        self.address = address
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.connections = 0
        self._first = first or Kind(
            type=Kind.REGISTER, payload=chaincode_pb2.ChaincodeID(name="cc:1").SerializeToString()
        )
        self._context: Any = None
        self._end = asyncio.Event()
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(
            self._connect, request_deserializer=Kind.FromString, response_serializer=Kind.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("protos.Chaincode", {"Connect": handler})]
        )
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    async def _connect(self, messages: AsyncIterator[Any], context: Any) -> None:
        self.connections += 1
        self._context, self._end = context, asyncio.Event()
        await context.write(self._first)
        reading = asyncio.create_task(self._read(messages))
        await self._end.wait()
        reading.cancel()

    async def _read(self, messages: AsyncIterator[Any]) -> None:
        async for message in messages:
            await self.received.put(message)

    async def send(self, **fields: Any) -> None:
        await self._context.write(Kind(**{"channel_id": "care", **fields}))

    def hang_up(self) -> None:
        self._end.set()

    async def next(self, kind: int) -> Any:
        message = await asyncio.wait_for(self.received.get(), 5)
        assert message.type == kind, Kind.Type.Name(message.type)
        return message

    async def registered(self) -> None:
        await self.next(Kind.REGISTERED)
        await self.next(Kind.READY)


def answer(request: Any, context: Context) -> Any:
    """Echoes the payload; some payloads make it fail, refuse or answer later."""
    if request.payload == b"refuse":
        raise RequestRefused("not here")
    if request.payload == b"crash":
        raise KeyError("a secret")
    if request.payload == b"later":
        return _later()
    return request.payload + context.transaction_id.encode()


async def _later() -> bytes:
    await asyncio.sleep(0.05)
    return b"late"


@asynccontextmanager
async def connected(chaincode: ScriptedChaincode, **options: Any) -> AsyncIterator[ChaincodeClient[Context]]:
    client: ChaincodeClient[Context] = ChaincodeClient("cc", chaincode.address, answer, **options)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def chaincode() -> AsyncIterator[ScriptedChaincode]:
    chaincode = ScriptedChaincode(free_address())
    await chaincode.start()
    yield chaincode
    chaincode.hang_up()
    await chaincode.stop()


def transaction(name: str) -> Any:
    return Kind(type=Kind.TRANSACTION, txid=name, channel_id="care", payload=b"input")


async def test_the_peer_registers_the_chaincode_and_offers_batches(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode):
        await chaincode.next(Kind.REGISTERED)
        ready = await chaincode.next(Kind.READY)
    params = ChaincodeAdditionalParams.FromString(ready.payload)
    assert (params.use_write_batch, params.max_size_write_batch) == (True, 1000)
    assert (params.use_get_multiple_keys, params.max_size_get_multiple_keys) == (True, 1000)


async def test_many_transactions_run_at_once_and_each_gets_its_own_answer(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode) as client:
        await chaincode.registered()
        running = [asyncio.create_task(client.execute(Context(f"t{i}"), transaction(f"t{i}"))) for i in range(20)]
        asked = [await chaincode.next(Kind.TRANSACTION) for _ in running]
        for message in reversed(asked):
            await chaincode.send(type=Kind.COMPLETED, txid=message.txid, payload=message.txid.encode())
        assert [(await task).payload for task in running] == [f"t{i}".encode() for i in range(20)]


async def test_a_state_request_is_answered_in_the_context_of_its_transaction(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode) as client:
        await chaincode.registered()
        running = asyncio.create_task(client.execute(Context("t1"), transaction("t1")))
        await chaincode.next(Kind.TRANSACTION)
        await chaincode.send(type=Kind.GET_STATE, txid="t1", payload=b"key of ")
        assert (await chaincode.next(Kind.RESPONSE)).payload == b"key of t1"
        await chaincode.send(type=Kind.COMPLETED, txid="t1")
        await running


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"refuse", "GET_STATE failed: transaction ID: t1: not here"),
        (b"crash", "GET_STATE failed: transaction ID: t1: panic during execution"),
    ],
)
async def test_what_fails_in_one_transaction_fails_that_one(
    chaincode: ScriptedChaincode, payload: bytes, text: str
) -> None:
    async with connected(chaincode) as client:
        await chaincode.registered()
        running = [asyncio.create_task(client.execute(Context(name), transaction(name))) for name in ("t1", "t2")]
        for _ in running:
            await chaincode.next(Kind.TRANSACTION)
        await chaincode.send(type=Kind.GET_STATE, txid="t1", payload=payload)
        assert (await chaincode.next(Kind.ERROR)).payload.decode() == text
        await chaincode.send(type=Kind.GET_STATE, txid="t2", payload=b"fine ")
        assert (await chaincode.next(Kind.RESPONSE)).payload == b"fine t2"
        for name in ("t1", "t2"):
            await chaincode.send(type=Kind.COMPLETED, txid=name)
        await asyncio.gather(*running)


async def test_a_second_request_while_one_is_open_is_dropped(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode) as client:
        await chaincode.registered()
        running = asyncio.create_task(client.execute(Context("t1"), transaction("t1")))
        await chaincode.next(Kind.TRANSACTION)
        await chaincode.send(type=Kind.INVOKE_CHAINCODE, txid="t1", payload=b"later")
        await chaincode.send(type=Kind.GET_STATE, txid="t1", payload=b"dropped")
        assert (await chaincode.next(Kind.RESPONSE)).payload == b"late"
        await chaincode.send(type=Kind.GET_STATE, txid="t1", payload=b"after ")
        assert (await chaincode.next(Kind.RESPONSE)).payload == b"after t1"
        await chaincode.send(type=Kind.COMPLETED, txid="t1")
        await running


async def test_a_request_for_a_transaction_that_does_not_run_gets_an_error(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode):
        await chaincode.registered()
        await chaincode.send(type=Kind.PUT_STATE, txid="gone")
        refused = await chaincode.next(Kind.ERROR)
    assert refused.payload.decode() == "PUT_STATE failed: transaction ID: gone: no ledger context"


async def test_one_transaction_id_runs_once_at_a_time(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode) as client:
        await chaincode.registered()
        running = asyncio.create_task(client.execute(Context("t1"), transaction("t1")))
        await chaincode.next(Kind.TRANSACTION)
        with pytest.raises(ChaincodeError, match=r"txid: t1\(care\) exists"):
            await client.execute(Context("t1"), transaction("t1"))
        await chaincode.send(type=Kind.COMPLETED, txid="t1")
        await running


async def test_a_transaction_without_an_answer_times_out_alone(chaincode: ScriptedChaincode) -> None:
    async with connected(chaincode, execute_timeout_seconds=0.2) as client:
        await chaincode.registered()
        with pytest.raises(ChaincodeError, match="timeout expired while executing transaction"):
            await client.execute(Context("slow"), transaction("slow"))
        await chaincode.next(Kind.TRANSACTION)
        running = asyncio.create_task(client.execute(Context("quick"), transaction("quick")))
        await chaincode.next(Kind.TRANSACTION)
        await chaincode.send(type=Kind.COMPLETED, txid="slow")
        await chaincode.send(type=Kind.COMPLETED, txid="quick")
        assert (await running).txid == "quick"


async def test_when_the_stream_breaks_its_transactions_fail_and_the_peer_connects_again(
    chaincode: ScriptedChaincode,
) -> None:
    async with connected(chaincode) as client:
        await chaincode.registered()
        running = asyncio.create_task(client.execute(Context("t1"), transaction("t1")))
        await chaincode.next(Kind.TRANSACTION)
        chaincode.hang_up()
        with pytest.raises(StreamTerminated, match=r"chaincode stream terminated$"):
            await running
        await chaincode.registered()
        assert chaincode.connections == 2


async def test_without_a_chaincode_the_error_says_so_and_one_that_starts_meanwhile_is_found() -> None:
    chaincode = ScriptedChaincode(free_address())
    async with connected(chaincode, dial_timeout_seconds=0.5) as client:
        async with asyncio.timeout(2):
            with pytest.raises(ChaincodeError, match="could not launch chaincode cc: connection to cc failed"):
                await client.execute(Context("t1"), transaction("t1"))
        assert not client.is_ready
        running = asyncio.create_task(client.execute(Context("t2"), transaction("t2")))
        await asyncio.sleep(0.1)
        await chaincode.start()
        await chaincode.registered()
        await chaincode.next(Kind.TRANSACTION)
        await chaincode.send(type=Kind.COMPLETED, txid="t2")
        assert (await running).txid == "t2"
        chaincode.hang_up()
        await chaincode.stop()


@pytest.mark.parametrize(
    "first",
    [
        Kind(type=Kind.COMPLETED),
        Kind(type=Kind.REGISTER, payload=b"\xff\xff"),
        Kind(type=Kind.REGISTER),
    ],
)
async def test_a_stream_that_does_not_begin_with_a_registration_is_ended(first: Any) -> None:
    chaincode = ScriptedChaincode(free_address(), first)
    await chaincode.start()
    async with connected(chaincode) as client:
        async with asyncio.timeout(5):
            while chaincode.connections < 2:
                await asyncio.sleep(0.01)
        assert not client.is_ready
    chaincode.hang_up()
    await chaincode.stop()


async def test_keepalives_of_the_chaincode_are_ignored_and_unknown_messages_end_the_stream(
    chaincode: ScriptedChaincode,
) -> None:
    async with connected(chaincode):
        await chaincode.registered()
        await chaincode.send(type=Kind.KEEPALIVE)
        await chaincode.send(type=Kind.REGISTER)
        await chaincode.registered()
        assert chaincode.connections == 2
