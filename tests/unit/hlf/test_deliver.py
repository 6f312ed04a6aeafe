import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from fabric_protos.common import common_pb2
from hlf import silence
from hlf.blocks import Block, Checkpoint
from hlf.deliver import FOREVER, deliver, follow
from hlf.errors import DeliverError
from hlf.gateway import Gateway
from support.hlf_blocks import Chain, new_envelope, new_member
from support.hlf_peer import Answer, ScriptedPeer, failing, gateway_to, hanging, scripted_peer

MEMBER = new_member()


@asynccontextmanager
async def peer_with_blocks(count: int) -> AsyncIterator[tuple[ScriptedPeer, Gateway, Chain]]:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        chain = Chain()
        for _ in range(count):
            await add_block(peer, chain)
        yield peer, gateway, chain


async def add_block(peer: ScriptedPeer, chain: Chain) -> None:
    transaction_id, envelope = new_envelope(MEMBER, {"k": b"v"})
    await peer.add_block(chain.add([envelope]), [transaction_id])


async def collect(blocks: AsyncGenerator[Any, None], count: int | None = None) -> list[Any]:
    found = []
    async for block in blocks:
        found.append(block)
        if len(found) == count:
            break
    await blocks.aclose()
    return found


def break_block(peer: ScriptedPeer, position: int, **header: Any) -> None:
    changed = common_pb2.Block.FromString(peer.blocks[position].SerializeToString())
    for name, value in header.items():
        setattr(changed.header, name, value)
    peer.blocks[position] = changed


async def test_blocks_come_in_order_up_to_the_last_one_wanted() -> None:
    async with peer_with_blocks(5) as (_, gateway, _):
        blocks = await collect(deliver(gateway, MEMBER, "care", start=1, stop=3))
    assert [block.number for block in blocks] == [1, 2, 3]


async def test_the_newest_block_opens_a_stream_that_goes_on() -> None:
    async with peer_with_blocks(3) as (peer, gateway, chain):
        stream = deliver(gateway, MEMBER, "care")
        assert (await anext(stream)).number == 2
        await add_block(peer, chain)
        assert (await anext(stream)).number == 3
        await stream.aclose()
    [(_, seek)] = peer.calls
    assert seek.start.HasField("newest")
    assert seek.stop.specified.number == FOREVER


async def test_a_filtered_stream_brings_ids_and_verdicts() -> None:
    async with peer_with_blocks(2) as (peer, gateway, _):
        blocks = await collect(deliver(gateway, MEMBER, "care", start=0, stop=1, kind="filtered"))
    assert [block.transactions[0].transaction_id for block in blocks] == [peer.transaction_ids[n][0] for n in (0, 1)]
    assert all(block.transactions[0].is_valid for block in blocks)


async def test_a_stream_goes_on_after_a_checkpoint_that_was_kept() -> None:
    async with peer_with_blocks(5) as (_, gateway, _):
        [_, _, third] = await collect(deliver(gateway, MEMBER, "care", start=0, stop=2))
        rest = await collect(deliver(gateway, MEMBER, "care", start=third.checkpoint, stop=4))
    assert [block.number for block in rest] == [3, 4]


async def test_a_checkpoint_of_another_chain_is_noticed() -> None:
    async with peer_with_blocks(3) as (_, gateway, _):
        with pytest.raises(DeliverError, match="does not link") as raised:
            await collect(deliver(gateway, MEMBER, "care", start=Checkpoint(0, b"another"), stop=2))
    assert raised.value.is_chain_broken
    assert not raised.value.retriable


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"number": 7}, "block 7 came where block 2 belongs"),
        ({"previous_hash": b"another"}, "does not link"),
        ({"data_hash": b"another"}, "does not hold the data"),
    ],
)
async def test_a_block_that_does_not_fit_ends_the_stream(header: dict[str, Any], message: str) -> None:
    async with peer_with_blocks(4) as (peer, gateway, _):
        break_block(peer, 2, **header)
        seen = []
        with pytest.raises(DeliverError, match=message) as raised:
            async for block in deliver(gateway, MEMBER, "care", start=0, stop=3):
                seen.append(block.number)
    assert raised.value.is_chain_broken
    assert seen == [0, 1]


async def test_following_does_not_step_over_a_broken_chain() -> None:
    async with peer_with_blocks(4) as (peer, gateway, _):
        break_block(peer, 2, previous_hash=b"another")
        with pytest.raises(DeliverError, match="does not link"):
            await collect(follow(gateway, MEMBER, "care", start=0))


@pytest.mark.parametrize(
    ("status", "is_retriable"), [(common_pb2.FORBIDDEN, False), (common_pb2.SERVICE_UNAVAILABLE, True)]
)
async def test_a_refused_stream_says_why(status: int, is_retriable: bool) -> None:
    async def refuse(seek: Any, context: Any) -> int:
        return status

    async with peer_with_blocks(1) as (peer, gateway, _):
        peer.script["Deliver"] = [refuse]
        with pytest.raises(DeliverError, match=common_pb2.Status.Name(status)) as raised:
            await collect(deliver(gateway, MEMBER, "care", start=0))
    assert raised.value.retriable == is_retriable


async def test_a_stream_that_ends_before_its_end_is_an_error() -> None:
    async def end(seek: Any, context: Any) -> int:
        return int(common_pb2.SUCCESS)

    async with peer_with_blocks(1) as (peer, gateway, _):
        peer.script["Deliver"] = [end]
        with pytest.raises(DeliverError, match="ended: SUCCESS"):
            await collect(deliver(gateway, MEMBER, "care", start=0))


async def test_without_a_peer_there_is_no_stream() -> None:
    async with scripted_peer() as peer, gateway_to(peer, connect=0.2) as gateway:
        await peer.stop()
        with pytest.raises(DeliverError, match="no gateway peer") as raised:
            await collect(deliver(gateway, MEMBER, "care"))
    assert raised.value.retriable


@pytest.mark.parametrize("kind", ["full", "filtered"])
async def test_following_survives_lost_connections_without_gap_or_repetition(kind: Any) -> None:
    failures: list[DeliverError] = []
    async with peer_with_blocks(3) as (peer, gateway, chain):
        stream = follow(gateway, MEMBER, "care", start=0, kind=kind, on_failure=failures.append)
        numbers = [(await anext(stream)).number for _ in range(3)]
        for _ in range(3):
            await peer.stop()
            await add_block(peer, chain)
            await add_block(peer, chain)
            await peer.start()
            numbers += [(await anext(stream)).number for _ in range(2)]
        await stream.aclose()
    assert numbers == list(range(9))
    assert len(failures) >= 3
    assert not any(failure.is_chain_broken for failure in failures)


async def test_following_goes_on_at_another_peer_and_checks_that_it_has_the_same_chain() -> None:
    async with peer_with_blocks(3) as (first, _, chain), scripted_peer() as second:
        for block in chain.blocks:
            await second.add_block(block, ["1f"])
        async with gateway_to(first, second) as gateway:
            stream = follow(gateway, MEMBER, "care", start=0)
            numbers = [(await anext(stream)).number for _ in range(3)]
            await first.stop()
            await add_block(second, chain)
            numbers.append((await anext(stream)).number)
            fork = Chain(chain.blocks[:3])
            for _ in range(2):
                await add_block(first, fork)
            await first.start()
            await second.stop()
            with pytest.raises(DeliverError, match="does not link"):
                await anext(stream)
    assert numbers == [0, 1, 2, 3]


async def test_a_full_peer_is_asked_again() -> None:
    full = failing(grpc.StatusCode.UNKNOWN, "too many requests for /protos.Deliver, exceeding concurrency limit (2)")
    async with peer_with_blocks(1) as (peer, gateway, _):
        peer.script["Deliver"] = [full, full]
        assert len(await collect(follow(gateway, MEMBER, "care", start=0), 1)) == 1
    assert peer.count("Deliver") == 3


class Refusing:
    def verify(self, block: Block) -> None:
        if block.number == 1:
            raise ValueError("block 1 is not signed")


async def test_a_verifier_has_its_say() -> None:
    async with peer_with_blocks(3) as (_, gateway, _):
        with pytest.raises(DeliverError, match="not signed") as raised:
            await collect(deliver(gateway, MEMBER, "care", start=0, stop=2, verifier=Refusing()))
    assert raised.value.is_chain_broken


async def test_a_slow_reader_slows_the_peer() -> None:
    """Blocks of 1 MiB: the peer cannot get far ahead of a reader that has taken one."""
    sent = 0
    envelope = new_envelope(MEMBER, {"k": bytes(1 << 20)})[1]

    class Counting(ScriptedPeer):
        async def Deliver(self, requests: Any, context: Any) -> AsyncIterator[Any]:
            nonlocal sent
            async for response in super().Deliver(requests, context):
                yield response
                sent += 1

    peer, chain = Counting(), Chain()
    await peer.start()
    for _ in range(60):
        await peer.add_block(chain.add([envelope]), ["1f"])
    try:
        async with gateway_to(peer) as gateway:
            stream = deliver(gateway, MEMBER, "care", start=0, stop=59)
            await anext(stream)
            await asyncio.sleep(0.5)
            assert sent < 30
            assert len(await collect(stream)) == 59
    finally:
        await peer.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(silence, "ANSWER_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["full", "filtered", "private"])
async def test_following_goes_on_at_another_peer_when_one_hangs(kind: Any) -> None:
    """The connection stays open; neither the stream nor a new call is answered."""
    failures: list[DeliverError] = []
    async with peer_with_blocks(2) as (first, _, chain), scripted_peer() as second:
        for block in chain.blocks:
            await second.add_block(block, ["1f"])
        async with gateway_to(first, second) as gateway:
            stream = follow(gateway, MEMBER, "care", start=0, kind=kind, on_failure=failures.append)
            numbers = [(await anext(stream)).number for _ in range(2)]
            first.script["DeliverFiltered"] = [hanging()]
            waiting = asyncio.create_task(anext(stream))
            while not failures:
                await asyncio.sleep(0.02)
            await add_block(second, chain)
            numbers.append((await waiting).number)
            await stream.aclose()
    assert numbers == [0, 1, 2]
    assert [str(failure) for failure in failures] == ["the peer does not answer"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", ["its newest block", "a refusal", "that it is full"])
async def test_a_silent_stream_of_a_peer_that_answers_goes_on(answer: str) -> None:
    refusal = failing(grpc.StatusCode.UNKNOWN, "too many requests for /protos.Deliver, exceeding concurrency limit (2)")
    failures: list[DeliverError] = []
    async with peer_with_blocks(1) as (peer, gateway, chain):
        stream = follow(gateway, MEMBER, "care", start=0, on_failure=failures.append)
        assert (await anext(stream)).number == 0
        planned: dict[str, list[Answer]] = {"a refusal": [_forbidden] * 3, "that it is full": [refusal] * 3}
        peer.script["DeliverFiltered"] = planned.get(answer, [])
        waiting = asyncio.create_task(anext(stream))
        while peer.count("DeliverFiltered") < 4:
            await asyncio.sleep(0.02)
        await add_block(peer, chain)
        assert (await waiting).number == 1
        await stream.aclose()
    assert not failures
    assert peer.count("Deliver") == 1


@pytest.mark.usefixtures("impatient")
async def test_whoever_stops_following_a_peer_that_hangs_is_not_held_up() -> None:
    async with peer_with_blocks(1) as (peer, gateway, _):
        stream = follow(gateway, MEMBER, "care", start=0)
        assert (await anext(stream)).number == 0
        peer.script["DeliverFiltered"] = [hanging()] * 100
        waiting = asyncio.create_task(anext(stream))
        while not peer.count("DeliverFiltered"):
            await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def _forbidden(_: Any, __: Any) -> int:
    return int(common_pb2.FORBIDDEN)
