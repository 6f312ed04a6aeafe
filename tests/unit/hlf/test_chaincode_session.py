"""The stream between a peer and a chaincode: registration, many transactions at once, failures that stay alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem
from hlf.chaincode import ChaincodeServer, ContractError, PeerRefused, ProposalMalformed, Response, ServerTls, Stub
from support.chaincode_peer import ChaincodePeer, Type, connected, identity, signed_proposal

Invoke = Callable[[Stub], Awaitable[Response]]
SOMEBODY = identity({"emr.role": "physician"})


class Chaincode:
    def __init__(self, invoke: Invoke) -> None:
        self.invoke = invoke


@asynccontextmanager
async def serving(invoke: Invoke, **options: Any) -> AsyncIterator[tuple[ChaincodeServer, ChaincodePeer]]:
    server = ChaincodeServer(Chaincode(invoke), "127.0.0.1:0", "demo:1", stop_grace_seconds=2, **options)
    async with server, connected(server.port) as peer:
        assert await peer.register() == "demo:1"
        yield server, peer


async def answer_ok(stub: Stub) -> Response:
    return Response(payload=b"ok " + stub.arguments[-1])


async def test_a_transaction_is_answered() -> None:
    async with serving(answer_ok) as (_, peer):
        response = await peer.respond("t1", b"read", b"x")
    assert (response.status, response.payload) == (200, b"ok x")


async def test_the_caller_is_read_from_the_proposal() -> None:
    seen: list[Stub] = []

    async def look(stub: Stub) -> Response:
        seen.append(stub)
        assert stub.creator.msp_id == "Org"
        assert stub.attributes == {"emr.role": "physician"}
        assert stub.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
        assert dict(stub.transient) == {"note": b"secret"}
        assert (stub.function, stub.args) == ("read", (b"x",))
        assert len(stub.binding) == 32
        return Response()

    async with serving(look) as (_, peer):
        proposal = signed_proposal(SOMEBODY, transient={"note": b"secret"}, nanos=123_456_789)
        assert (await peer.respond("t1", b"read", b"x", proposal=proposal)).status == 200
    assert seen[0].tx_id == "t1"


async def test_many_transactions_run_at_once() -> None:
    meeting = asyncio.Barrier(20)

    async def meet(stub: Stub) -> Response:
        await meeting.wait()
        return Response(payload=stub.args[0])

    async with serving(meet) as (_, peer):
        responses = await asyncio.gather(*(peer.respond(f"t{n}", b"meet", b"%d" % n) for n in range(20)))
    assert [response.payload for response in responses] == [b"%d" % n for n in range(20)]


async def test_a_failure_fails_one_transaction_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(stub: Stub) -> Response:
        if stub.args[0] != b"x":
            raise KeyError(stub.args[0].decode(), stub.transient["note"])
        return Response(payload=b"fine")

    with caplog.at_level(logging.DEBUG):
        async with serving(fail) as (_, peer):
            proposal = signed_proposal(SOMEBODY, transient={"note": b"canary-transient"})
            failed, fine = await asyncio.gather(
                peer.respond("t1", b"f", b"canary-argument", proposal=proposal), peer.respond("t2", b"f", b"x")
            )
    assert (failed.status, failed.message) == (500, "the chaincode failed: KeyError")
    assert fine.payload == b"fine"
    assert "KeyError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_refusal_carries_its_status_and_writes_nothing() -> None:
    async def refuse(stub: Stub) -> Response:
        stub.put_state("k", b"v")
        stub.set_event("done")
        raise ContractError("NOT_FOUND", "there is none", 404)

    async with serving(refuse) as (_, peer):
        message = await peer.transact("t1", b"f")
        assert not message.HasField("chaincode_event")
        assert peer.requests == []
        response = await peer.respond("t2", b"f")
    assert (response.status, response.message) == (404, "NOT_FOUND: there is none")


async def test_an_event_goes_with_a_success() -> None:
    async def tell(stub: Stub) -> Response:
        stub.set_event("first", b"1")
        stub.set_event("last", b"2")
        return Response()

    async with serving(tell) as (_, peer):
        event = (await peer.transact("t1", b"f")).chaincode_event
    assert (event.event_name, event.payload) == ("last", b"2")


async def test_an_error_of_the_peer_reaches_the_chaincode() -> None:
    async def read(stub: Stub) -> Response:
        try:
            await stub.get_state("k")
        except PeerRefused as refusal:
            return Response(payload=f"{refusal.request}: {refusal.message}".encode())
        return Response(500)

    async with serving(read) as (_, peer):
        peer.answer = lambda _: RuntimeError("no ledger context")
        assert (await peer.respond("t1", b"f")).payload == b"GET_STATE: no ledger context"


async def test_requests_of_one_transaction_go_one_after_the_other() -> None:
    """A peer drops a second request of a transaction while one is open."""

    async def read(stub: Stub) -> Response:
        values = await asyncio.gather(*(stub.get_state(f"k{n}") for n in range(10)))
        return Response(payload=b"".join(value or b"" for value in values))

    async with serving(read) as (_, peer):
        peer.answer = lambda message: bytes(message.payload[-2:])
        assert (await peer.respond("t1", b"f")).payload == b"k0k1k2k3k4k5k6k7k8k9"
    assert len(peer.requests) == 10


async def test_a_transaction_that_is_at_work_is_not_started_again() -> None:
    release = asyncio.Event()

    async def wait(_: Stub) -> Response:
        await release.wait()
        return Response(payload=b"once")

    async with serving(wait) as (_, peer):
        first = asyncio.create_task(peer.transact("t1", b"f"))
        await asyncio.sleep(0.05)
        assert (await peer.transact("t1", b"f")).type == Type.Value("ERROR")
        release.set()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_transaction_that_takes_too_long_fails() -> None:
    async def hang(_: Stub) -> Response:
        await asyncio.Event().wait()
        return Response()

    async with serving(hang, transaction_timeout_seconds=0.05) as (_, peer):
        assert (await peer.respond("t1", b"f")).message == "the chaincode failed: TimeoutError"


async def test_input_that_cannot_be_read_fails_alone() -> None:
    async with serving(answer_ok) as (_, peer):
        broken = ChaincodeMessage(type=Type.Value("TRANSACTION"), payload=b"\xff", txid="t1", channel_id="care")
        assert (await peer.deliver(broken)).type == Type.Value("ERROR")
        assert (await peer.respond("t2", b"x")).status == 200


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
async def test_a_proposal_that_cannot_be_read_fails_alone(seconds: int) -> None:
    async def read(stub: Stub) -> Response:
        try:
            return Response(payload=str(stub.timestamp).encode())
        except ProposalMalformed:
            raise ContractError("MALFORMED", "unreadable") from None

    async with serving(read) as (_, peer):
        assert (await peer.respond("t1", b"f")).status == 400
        odd = signed_proposal(SOMEBODY, seconds=seconds)
        assert (await peer.respond("t2", b"f", proposal=odd)).status == 400


async def test_initialization_is_answered_with_and_without_an_init() -> None:
    class Initialized(Chaincode):
        async def init(self, _: Stub) -> Response:
            return Response(payload=b"initialized")

    async with serving(answer_ok) as (_, peer):
        assert (await peer.respond("t1", b"x", kind="INIT")).status == 200
    server = ChaincodeServer(Initialized(answer_ok), "127.0.0.1:0", "demo:1")
    async with server, connected(server.port) as peer:
        await peer.register()
        assert (await peer.respond("t1", b"x", kind="INIT")).payload == b"initialized"


async def test_keepalives_are_echoed_and_unknown_messages_passed_over() -> None:
    async with serving(answer_ok) as (_, peer):
        await peer.send(ChaincodeMessage(type=Type.Value("KEEPALIVE")))
        await peer.send(ChaincodeMessage(type=77))
        await peer.send(ChaincodeMessage(type=Type.Value("RESPONSE"), txid="nobody's"))
        await peer.respond("t1", b"x")
        assert peer.echoes == 1


async def test_a_peer_that_skips_registration_is_hung_up_on() -> None:
    server = ChaincodeServer(Chaincode(answer_ok), "127.0.0.1:0", "demo:1")
    async with server, connected(server.port) as peer:
        await peer.registered
        await peer.send(peer.transaction("t1", b"x"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(peer.ended, 5)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_work_ends_when_its_peer_goes_away() -> None:
    cancelled = asyncio.Event()

    async def wait(_: Stub) -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response()

    server = ChaincodeServer(Chaincode(wait), "127.0.0.1:0", "demo:1")
    async with server:
        async with connected(server.port) as peer:
            await peer.register()
            await peer.send(peer.transaction("t1", b"x"))
            await asyncio.sleep(0.05)
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_stop_lets_transactions_at_work_end_and_takes_no_more() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(_: Stub) -> Response:
        started.set()
        await release.wait()
        return Response(payload=b"ended")

    async with serving(wait) as (server, peer):
        at_work = asyncio.create_task(peer.respond("t1", b"x"))
        await started.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        late = await peer.transact("t2", b"x")
        assert late.type == Type.Value("ERROR")
        release.set()
        assert (await at_work).payload == b"ended"
        await asyncio.wait_for(stopping, 2)


async def test_several_peers_are_served() -> None:
    server = ChaincodeServer(Chaincode(answer_ok), "127.0.0.1:0", "demo:1")
    async with server, connected(server.port) as one, connected(server.port) as other:
        await asyncio.gather(one.register(), other.register())
        responses = await asyncio.gather(one.respond("t1", b"1"), other.respond("t1", b"2"))
    assert [response.payload for response in responses] == [b"ok 1", b"ok 2"]


async def test_the_stream_may_be_encrypted_and_peers_asked_for_a_certificate() -> None:
    authority = CertificateAuthority.create("tlsca", "Org")

    def pair(name: str) -> tuple[bytes, bytes]:
        key = new_private_key()
        made = authority.issue(name, key.public_key(), purpose=Purpose.TLS, sans=("localhost", "127.0.0.1"))
        return certificate_to_pem(made), private_key_to_pem(key)

    tls = ServerTls(*pair("chaincode"), client_ca_pem=authority.certificate_pem)
    server = ChaincodeServer(Chaincode(answer_ok), "127.0.0.1:0", "demo:1", tls=tls)
    certificate, key = pair("peer")
    credentials = grpc.ssl_channel_credentials(authority.certificate_pem, key, certificate)
    async with server:
        async with connected(server.port, credentials) as peer:
            await peer.register()
            assert (await peer.respond("t1", b"x")).status == 200
        async with connected(server.port, grpc.ssl_channel_credentials(authority.certificate_pem)) as stranger:
            with pytest.raises(grpc.aio.AioRpcError):
                await asyncio.wait_for(stranger.ended, 5)
