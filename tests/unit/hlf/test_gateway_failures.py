"""What a client does when peers are away, slow or full."""

import asyncio
import time

import grpc
import pytest
from hlf.errors import CommitStatusError, ConnectionFailed, EndorseError, EvaluateError, HlfError, SubmitError
from hlf.gateway import Contract, Gateway
from support.hlf_blocks import new_member
from support.hlf_peer import failing, gateway_to, hanging, scripted_peer

MEMBER = new_member()
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
TOO_MANY = failing(grpc.StatusCode.UNKNOWN, "too many requests for /gateway.Gateway, exceeding concurrency limit (500)")


def contract(gateway: Gateway) -> Contract:
    return gateway.contract(MEMBER, "care", "kv")


async def run_step(gateway: Gateway, step: str) -> None:
    match step:
        case "Evaluate":
            await contract(gateway).evaluate("get")
        case "Endorse":
            await contract(gateway).propose("put").endorse()
        case "Submit":
            await (await contract(gateway).propose("put").endorse()).submit()
        case "CommitStatus":
            await gateway.commit_status(MEMBER, "care", "1f")


STEPS: list[tuple[str, type[HlfError]]] = [
    ("Evaluate", EvaluateError),
    ("Endorse", EndorseError),
    ("Submit", SubmitError),
    ("CommitStatus", CommitStatusError),
]


@pytest.mark.parametrize(("step", "error"), STEPS)
async def test_each_step_has_its_timeout_and_its_error(step: str, error: type[HlfError]) -> None:
    async with scripted_peer() as peer, gateway_to(peer, **{_timeout_of(step): 0.2}) as gateway:
        peer.script[step] = [hanging()]
        started = time.monotonic()
        with pytest.raises(error) as raised:
            await run_step(gateway, step)
        assert time.monotonic() - started < 2
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert raised.value.transaction_id
    assert peer.count(step) == 1


def _timeout_of(step: str) -> str:
    return {"CommitStatus": "commit_status"}.get(step, step.lower())


@pytest.mark.parametrize(("step", "error"), STEPS)
async def test_a_call_that_a_full_peer_turned_away_is_made_again(step: str, error: type[HlfError]) -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.script[step] = [TOO_MANY, TOO_MANY, TOO_MANY]
        await run_step(gateway, step)
    assert peer.count(step) == 4


@pytest.mark.parametrize(("step", "error"), STEPS)
async def test_a_peer_that_stays_full_is_not_asked_for_longer_than_the_step_may_take(
    step: str, error: type[HlfError]
) -> None:
    async with scripted_peer() as peer, gateway_to(peer, **{_timeout_of(step): 0.5}) as gateway:
        peer.script[step] = [TOO_MANY] * 100
        with pytest.raises(error, match=r"too many requests|Deadline Exceeded"):  # the last may time out
            await run_step(gateway, step)
    assert 2 < peer.count(step) < 50


@pytest.mark.parametrize(("step", "error"), STEPS)
async def test_a_refusal_is_not_asked_for_twice(step: str, error: type[HlfError]) -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.script[step] = [failing(UNAVAILABLE, "failed to find any endorsing peers for org(s): HospitalB")]
        with pytest.raises(error) as raised:
            await run_step(gateway, step)
    assert peer.count(step) == 1
    assert raised.value.unavailable_organizations == {"HospitalB"}


@pytest.mark.parametrize(("step", "error"), STEPS)
async def test_without_any_peer_a_step_fails_early_and_says_so(step: str, error: type[HlfError]) -> None:
    async with scripted_peer() as peer, gateway_to(peer, connect=0.3) as gateway:
        transaction = await contract(gateway).propose("put").endorse()
        connected = await gateway.connections.ready_peer()
        await peer.stop()
        await _until(lambda: not connected.is_connected)  # or a call may still go out on what is being closed
        with pytest.raises(error, match="no gateway peer can be reached") as raised:
            await (transaction.submit() if step == "Submit" else run_step(gateway, step))
    assert raised.value.code is UNAVAILABLE
    assert raised.value.retriable
    if isinstance(raised.value, SubmitError):
        assert not raised.value.is_outcome_unknown


@pytest.mark.parametrize("step", ["Evaluate", "Endorse", "CommitStatus"])
async def test_a_connection_lost_in_a_call_is_made_up_for_by_another_peer(step: str) -> None:
    async with scripted_peer() as first, scripted_peer() as second, gateway_to(first, second) as gateway:
        first.script[step] = [hanging()]
        running = asyncio.create_task(run_step(gateway, step))
        await _until(lambda: first.count(step) == 1)
        await first.stop()
        await running
        assert second.count(step) == 1
        await run_step(gateway, step)
        assert second.count(step) == 2


async def test_a_transaction_that_may_have_been_received_is_not_sent_again() -> None:
    async with scripted_peer() as first, scripted_peer() as second, gateway_to(first, second) as gateway:
        transaction = await contract(gateway).propose("put").endorse()
        first.script["Submit"] = [hanging()]
        running = asyncio.create_task(transaction.submit())
        await _until(lambda: first.count("Submit") == 1)
        await first.stop()
        with pytest.raises(SubmitError) as raised:
            await running
    assert raised.value.is_outcome_unknown
    assert second.count("Submit") == 0


async def test_a_transaction_that_was_not_sent_goes_to_another_peer() -> None:
    async with scripted_peer() as first, scripted_peer() as second, gateway_to(first, second) as gateway:
        transaction = await contract(gateway).propose("put").endorse()
        await first.stop()
        await _until(lambda: not gateway.connections._peers[0].is_connected)
        await transaction.submit()
    assert second.count("Submit") == 1


async def test_a_peer_that_comes_back_is_used_again() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        await run_step(gateway, "Evaluate")
        await peer.stop()
        running = asyncio.create_task(run_step(gateway, "Evaluate"))
        await asyncio.sleep(0.2)
        await peer.start()
        await running
    assert peer.count("Evaluate") == 2


async def test_a_peer_that_does_not_answer_at_all_does_not_use_up_the_time_for_the_next() -> None:
    """The first endpoint accepts connections and says nothing."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with scripted_peer() as peer, scripted_peer() as stand_in:
        await stand_in.stop()
        stand_in.port = server.sockets[0].getsockname()[1]
        async with gateway_to(stand_in, peer, connect=1.0) as gateway:
            await gateway.connect()
            await run_step(gateway, "Evaluate")
        await stand_in._server.wait_for_termination()
    server.close()
    assert peer.count("Evaluate") == 1


async def test_connect_fails_when_there_is_nobody() -> None:
    async with scripted_peer() as peer:
        await peer.stop()
        async with gateway_to(peer) as gateway:
            with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{peer.port}"):
                await gateway.connect(timeout=0.2)


async def test_a_cancelled_step_ends_at_once() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.script["Endorse"] = [hanging()]
        running = asyncio.create_task(run_step(gateway, "Endorse"))
        await _until(lambda: peer.count("Endorse") == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def _until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
