"""Parts that fail while the rest goes on: chaincodes and peers. Each case breaks a network of its own."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hlf import silence
from hlf.deliver import follow
from hlf.errors import EndorseError, EvaluateError
from hlf.gateway import Gateway, Timeouts
from hlf.identity import SigningIdentity
from support import raw_calls as raw
from support.administration import eventually
from support.devnet import Network
from support.networks import running_network
from support.transactions import Client

A, B = "HospitalA", "HospitalB"
PATIENT = Timeouts(evaluate=15, endorse=30, submit=15)

Own = tuple[Network, Client]
"""A network of the test's own, of which it may break parts, and a client of hospital A."""


@pytest.fixture(params=["devnet", "fabric"])
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Own]:
    async with _own(request.param, tmp_path) as own:
        yield own


@pytest.fixture(params=["devnet", "fabric"])
async def hasty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Own]:
    """The same; on devnet its gateways wait shortly for an endorsement."""
    async with _own(request.param, tmp_path, endorsement_timeout_seconds=2) as own:
        yield own


@asynccontextmanager
async def _own(kind: str, folder: Path, **limits: float) -> AsyncIterator[Own]:
    options = {"settings": {"limits": limits}} if kind == "devnet" else {}
    async with running_network(kind, folder, **options) as running, running.gateway(A, PATIENT) as gateway:
        yield running, Client(gateway, running.member(A))


async def answer_of(client: Client, msp_id: str) -> str:
    """What a hospital's chaincode answers, once it does."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.evaluate("get", "nothing", targets=[msp_id])
            except EvaluateError:
                await asyncio.sleep(0.2)


async def test_answers_that_differ_between_hospitals_are_not_endorsed(own: Own) -> None:
    network, client = own
    await network.stop_chaincode(B)
    await network.start_chaincode(B, " (B)")
    assert (await answer_of(client, B)).endswith(" (B)")
    for endorsers in ([A, B], []):
        with pytest.raises(EndorseError) as caught:
            await client.endorse("put", "k", "v", endorsers=endorsers)
        assert caught.value.code is grpc.StatusCode.ABORTED
        assert [detail.message for detail in caught.value.details] == ["ProposalResponsePayloads do not match"]
    assert await client.json("get", "k", targets=[A]) is None


async def test_a_chaincode_that_is_down_is_named_and_found_again_when_it_is_back(own: Own) -> None:
    network, client = own
    await network.stop_chaincode(B)
    with pytest.raises(EndorseError) as caught:
        await client.endorse("put", "k", "v")
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert caught.value.unavailable_organizations == {B}
    assert await client.json("get", "k") is None
    await network.start_chaincode(B)
    await answer_of(client, B)
    await client.submit("put", "k", "v")


async def test_a_hospital_that_hangs_is_named_by_the_gateway_before_the_client_gives_up(hasty: Own) -> None:
    network, client = hasty
    async with network.hanging(B):
        with pytest.raises(EndorseError) as caught:
            await client.endorse("put", "k", "v")
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert B in caught.value.unavailable_organizations
    await answer_of(client, B)
    await eventually(lambda: client.submit("put", "k", "v"))


async def test_an_evaluation_moves_on_to_another_hospital_unless_told_not_to(own: Own) -> None:
    network, client = own
    await network.stop_chaincode(A)
    assert await client.json("get", "k") is None
    with pytest.raises(EvaluateError) as caught:
        await client.evaluate("get", "k", targets=[A])
    assert caught.value.unavailable_organizations == {A}


async def test_while_one_peer_is_stopped_the_other_commits_what_it_may_alone(own: Own) -> None:
    network, client = own
    await client.submit("put_with_policy", "mine", "v", f"AND('{A}.peer')")
    await client.submit("put", "ours", "v")
    await network.stop_peer(B)
    with pytest.raises(EndorseError) as caught:
        await client.endorse("put", "ours", "again")
    assert caught.value.unavailable_organizations == {B}
    for endorsers in ([A], []):
        await client.submit("put", "mine", f"by A {endorsers}", endorsers=endorsers)
    await network.start_peer(B)
    async with network.gateway(B, PATIENT) as gateway_b:
        assert await Client(gateway_b, network.member(B)).evaluate("get", "mine", targets=[B]) == "by A []"
    await client.submit("put", "ours", "again")


async def test_a_reader_follows_across_a_stop_of_the_peer(own: Own) -> None:
    network, client = own
    async with network.gateway("HospitalB") as gateway_b:
        reader = network.member("HospitalB")
        first = (await client.submit("put", "first", "v")).block_number
        stream = follow(gateway_b, reader, "care", start=first)
        assert (await anext(stream)).number == first
        await network.stop_peer("HospitalB")
        second = await client.commit(await client.endorse("put", "f", "v", endorsers=["HospitalA"]))
        await network.start_peer("HospitalB")
        assert (await asyncio.wait_for(anext(stream), 20)).number == second.block_number == first + 1
        await stream.aclose()


async def test_readers_notice_that_their_peer_hangs_and_go_on_once_it_does_not(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every kind of stream, at most ten seconds after the last block; less here. gRPC alone would take 110."""
    monkeypatch.setattr(silence, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 2.0)
    network, client = own
    first = (await client.submit("put", "first", "v")).block_number
    async with network.gateway(A) as gateway:
        readers = [Reader(gateway, network.member(A), kind, first) for kind in ("full", "filtered", "private")]
        for reader in readers:
            assert await reader.next_number() == first
        waiting = [asyncio.create_task(reader.next_number()) for reader in readers]
        with network.peer_hanging(A):
            async with asyncio.timeout(60):
                await asyncio.gather(*(reader.interrupted.wait() for reader in readers))
        await eventually(lambda: client.submit("put", "second", "v"))
        assert await asyncio.wait_for(asyncio.gather(*waiting), 60) == [first + 1] * 3
        for reader in readers:
            await reader.stream.aclose()


@pytest.mark.parametrize("kind", ["devnet", "fabric"])
async def test_a_reader_that_a_full_peer_turns_away_goes_on_exactly_where_it_was_once_there_is_room(
    kind: str, tmp_path: Path
) -> None:
    """As the indexer's relay reads, with what is private."""
    async with _own(kind, tmp_path, deliver_streams=20) as (network, client):
        last = (await client.submit("put", "first", "v")).block_number
        async with network.gateway(A) as gateway, raw.calls_of(network.endpoint(A)) as calls:
            filling = await _fill(calls)
            reader = Reader(gateway, network.member(A), "private", last)
            waiting = asyncio.create_task(reader.next_number())
            await asyncio.wait_for(reader.interrupted.wait(), 60)
            for key in ("second", "third"):
                await client.submit("put", key, "v")
            assert not waiting.done()
            for stream in filling:
                stream.cancel()
            async with asyncio.timeout(60):
                assert [await waiting, await reader.next_number(), await reader.next_number()] == [
                    last, last + 1, last + 2,
                ]  # fmt: skip
            await reader.stream.aclose()


async def _fill(calls: raw.Calls) -> list[Any]:
    """Streams that ask for nothing, as many as the peer takes: it turns others away."""
    streams: list[Any] = []
    async with asyncio.timeout(120):
        while not any(stream.done() for stream in streams):
            streams += [calls.deliver.Deliver() for _ in range(100)]
            await asyncio.sleep(0.2)
    return streams


class Reader:
    """Follows from a block on."""

    def __init__(self, gateway: Gateway, signer: SigningIdentity, kind: Any, start: int) -> None:
        self.interrupted = asyncio.Event()
        self.stream: AsyncGenerator[Any, None] = follow(
            gateway, signer, "care", start=start, kind=kind, on_failure=lambda _: self.interrupted.set()
        )

    async def next_number(self) -> int:
        return int((await anext(self.stream)).number)
