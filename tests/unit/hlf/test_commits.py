import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from hlf import commits
from hlf.commits import CommitTracker
from hlf.errors import CommitUnknown, SubmitError, TransactionInvalid
from hlf.gateway import Gateway
from support.hlf_blocks import Chain, new_envelope, new_member
from support.hlf_peer import Answer, ScriptedPeer, evaluated, failing, gateway_to, hanging, scripted_peer, submitted

MEMBER = new_member()
MVCC, DUPLICATE = b"\x0b", b"\x09"


@dataclass
class Network:
    peer: ScriptedPeer
    gateway: Gateway
    chain: Chain

    async def add_block(self, *transaction_ids: str, codes: bytes | None = None) -> int:
        envelopes = [new_envelope(MEMBER)[1] for _ in transaction_ids]
        block = self.chain.add(envelopes, codes)
        await self.peer.add_block(block, transaction_ids)
        return int(block.header.number)


@asynccontextmanager
async def network(**timeouts: float) -> AsyncIterator[Network]:
    async with scripted_peer() as peer, gateway_to(peer, **timeouts) as gateway:
        started = Network(peer, gateway, Chain())
        await started.add_block("genesis")
        yield started


NOT_KNOWN = failing(
    grpc.StatusCode.ABORTED,
    "failed to evaluate transaction, see attached details for more info",
    ("127.0.0.1:1", "HospitalA", "Failed to get block for txID 1f, error no such transaction ID [1f] in index"),
)


def found_in(block: Any) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        response = await evaluated(request, context)
        response.result.payload = block.SerializeToString()
        return response

    return answer


async def test_one_stream_settles_every_transaction() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        assert tracker.newest_own_block == -1
        pending = [tracker.expect(f"t{n}") for n in range(6)]
        await net.add_block("t0", "other", "t1")
        await net.add_block("t2", "t3", "t4", "t5", codes=b"\x00" + MVCC + b"\x00\x0a")
        commits = [await each.outcome(5) for each in pending]
        await net.add_block("others")
        await tracker.wait_for_block(3, 5)
    assert tracker.newest_own_block == 2
    assert [(c.transaction_id, c.block_number) for c in commits] == [
        ("t0", 1), ("t1", 1), ("t2", 2), ("t3", 2), ("t4", 2), ("t5", 2),
    ]  # fmt: skip
    assert [c.validation_name for c in commits[2:]] == [
        "VALID", "MVCC_READ_CONFLICT", "VALID", "ENDORSEMENT_POLICY_FAILURE",
    ]  # fmt: skip
    assert net.peer.count("DeliverFiltered") == 1
    assert net.peer.count("CommitStatus") == net.peer.count("Evaluate") == 0


async def test_a_repeated_id_counts_where_it_came_first() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        pending = tracker.expect("t0")
        await net.add_block("t0", "t0", codes=b"\x00\x09")
        assert (await pending.outcome(5)).is_valid


async def test_what_ends_while_the_stream_is_away_is_not_missed() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        for round_ in range(3):
            pending = [tracker.expect(f"t{round_}-{n}") for n in range(2)]
            await net.peer.stop()
            await asyncio.sleep(0.05)
            await net.add_block(f"t{round_}-0")
            await net.add_block(f"t{round_}-1")
            await net.peer.start()
            assert [(await each.outcome(5)).block_number for each in pending] == [2 * round_ + 1, 2 * round_ + 2]
        assert tracker.is_connected
        assert tracker.height == 7


async def test_it_knows_whether_it_is_connected() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        states = [tracker.is_connected]
        await net.peer.stop()
        async with asyncio.timeout(5):
            while tracker.last_failure is None:
                await asyncio.sleep(0.01)
        states.append(tracker.is_connected)
        await net.peer.start()
        async with asyncio.timeout(5):
            while not tracker.is_connected:  # though no block comes
                await asyncio.sleep(0.01)
        assert tracker.height == 1
    assert states == [True, False]


async def test_waiting_for_a_block() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        assert tracker.height == 1
        await tracker.wait_for_block(0, 0.1)
        with pytest.raises(TimeoutError):
            await tracker.wait_for_block(1, 0.05)
        waiting = asyncio.create_task(tracker.wait_for_block(2, 5))
        await net.add_block("t1")
        await net.add_block("t2")
        await waiting
        assert tracker.height == 3


async def test_a_transaction_that_is_not_known_in_time_is_looked_up_and_then_unknown() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        net.peer.script["Evaluate"] = [NOT_KNOWN]
        with pytest.raises(CommitUnknown) as raised:
            await tracker.expect("1f").outcome(0.05)
        assert raised.value.transaction_id == "1f"
        assert not raised.value.retriable
        assert not tracker._pending


async def test_a_lookup_that_fails_leaves_the_outcome_unknown() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        net.peer.script["Evaluate"] = [failing(grpc.StatusCode.FAILED_PRECONDITION, "no peers")]
        with pytest.raises(CommitUnknown):
            await tracker.expect("1f").outcome(0.05)


async def test_lookup_tells_block_and_verdict() -> None:
    async with network() as net:
        transaction_id, envelope = new_envelope(MEMBER)
        block = net.chain.add([new_envelope(MEMBER)[1], envelope], codes=b"\x00" + MVCC)
        net.peer.script["Evaluate"] = [found_in(block), NOT_KNOWN]
        tracker = CommitTracker(net.gateway, MEMBER, "care")
        commit = await tracker.lookup(transaction_id)
        assert commit is not None
        assert (commit.block_number, commit.validation_name) == (1, "MVCC_READ_CONFLICT")
        assert await tracker.lookup(transaction_id) is None
    [(_, request), _] = net.peer.calls
    assert list(request.target_organizations) == ["HospitalA"]


async def test_a_transaction_committed_before_the_first_block_came_is_looked_up() -> None:
    async with network() as net:
        transaction_id, envelope = new_envelope(MEMBER)
        earlier = net.chain.add([envelope])
        await net.peer.add_block(earlier, [transaction_id])
        await net.add_block("later")
        net.peer.script["Evaluate"] = [found_in(earlier)]
        tracker = CommitTracker(net.gateway, MEMBER, "care")
        pending = tracker.expect(transaction_id)
        async with tracker:
            assert (await pending.outcome(5)).block_number == 1


async def test_it_starts_without_a_peer_and_catches_up(caplog: pytest.LogCaptureFixture) -> None:
    async with network(connect=0.2) as net:
        await net.peer.stop()
        with caplog.at_level(logging.WARNING):
            async with CommitTracker(net.gateway, MEMBER, "care") as tracker:
                states = [tracker.is_connected]
                await net.peer.start()
                await tracker.wait_for_block(0, 5)
                states.append(tracker.is_connected)
    assert states == [False, True]
    assert "no block of channel care yet" in caplog.text


async def test_settling_submits_and_waits() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        contract = net.gateway.contract(MEMBER, "care", "kv")
        for code in (b"\x00", MVCC):
            transaction = await contract.propose("put").endorse()
            net.peer.script["Submit"] = [_ordering(net, code)]
            if code == MVCC:
                with pytest.raises(TransactionInvalid) as raised:
                    await tracker.settle(transaction)
                assert (raised.value.validation_name, raised.value.block_number) == ("MVCC_READ_CONFLICT", 2)
            else:
                assert (await tracker.settle(transaction)).block_number == 1
        assert not tracker._pending


async def test_a_submit_that_broke_off_is_settled_by_the_stream() -> None:
    async with network(submit=0.2) as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        transaction = await net.gateway.contract(MEMBER, "care", "kv").propose("put").endorse()

        async def order_and_hang(request: Any, context: Any) -> Any:
            await net.add_block(request.transaction_id)
            return await hanging()(request, context)

        net.peer.script["Submit"] = [order_and_hang]
        assert (await tracker.settle(transaction)).block_number == 1
    assert net.peer.count("Submit") == 1


LOST = failing(grpc.StatusCode.UNAVAILABLE, "no orderers could successfully process transaction")


@pytest.mark.parametrize("arrives", ["the second time", "both times"])
async def test_a_submit_that_went_down_with_its_peer_is_made_again_and_counts_once(
    arrives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "AGAIN_AFTER_SECONDS", 0.05)
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        transaction = await net.gateway.contract(MEMBER, "care", "kv").propose("put").endorse()

        async def order(request: Any, context: Any) -> Any:
            await net.add_block(request.transaction_id)
            if arrives == "both times":
                await net.add_block(request.transaction_id, codes=DUPLICATE)
            return await submitted(request, context)

        net.peer.script["Submit"] = [LOST, order]
        assert (await tracker.settle(transaction)).block_number == 1
    first, second = [request for method, request in net.peer.calls if method == "Submit"]
    assert first == second


async def test_what_an_orderer_took_and_lost_is_handed_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "UNHEARD_SECONDS", 0.05)
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        transaction = await net.gateway.contract(MEMBER, "care", "kv").propose("put").endorse()

        async def order(request: Any, context: Any) -> Any:
            await net.add_block(request.transaction_id)
            return await submitted(request, context)

        net.peer.script["Submit"] = [submitted, order]
        assert (await tracker.settle(transaction)).block_number == 1
    first, second = [request for method, request in net.peer.calls if method == "Submit"]
    assert first == second


@pytest.mark.parametrize(
    ("then", "submitted_times"),
    [(failing(grpc.StatusCode.ABORTED, "status=FORBIDDEN"), 2), (submitted, 2), (LOST, 4)],
    ids=["refused", "taken", "lost again, and again, and taken"],
)
async def test_a_submit_that_broke_off_is_made_again_until_it_is_taken_and_may_still_be_unknown(
    then: Answer, submitted_times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "AGAIN_AFTER_SECONDS", 0.01)
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        transaction = await net.gateway.contract(MEMBER, "care", "kv").propose("put").endorse()
        net.peer.script = {"Submit": [LOST, then, then, submitted][:submitted_times], "Evaluate": [NOT_KNOWN]}
        with pytest.raises(CommitUnknown):
            await tracker.settle(transaction, timeout_seconds=1)
        assert net.peer.count("Submit") == submitted_times
        assert not tracker._pending


async def test_a_submit_that_is_lost_each_time_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "AGAIN_AFTER_SECONDS", 0.01)
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        transaction = await net.gateway.contract(MEMBER, "care", "kv").propose("put").endorse()
        net.peer.script = {"Submit": [LOST] * 1000, "Evaluate": [NOT_KNOWN]}
        with pytest.raises(CommitUnknown):
            await tracker.settle(transaction, timeout_seconds=0.2)
        assert net.peer.count("Submit") > 1
        assert not tracker._pending


async def test_a_refused_submit_is_not_waited_for() -> None:
    async with network() as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        transaction = await net.gateway.contract(MEMBER, "care", "kv").propose("put").endorse()
        net.peer.script["Submit"] = [failing(grpc.StatusCode.ABORTED, "status=FORBIDDEN")]
        started = time.monotonic()
        with pytest.raises(SubmitError):
            await tracker.settle(transaction)
        assert time.monotonic() - started < 2
        assert not tracker._pending


async def test_many_transactions_at_a_full_peer_are_all_settled_once() -> None:
    """The peer has two places and turns everyone else away."""
    async with network(endorse=20, submit=20) as net, CommitTracker(net.gateway, MEMBER, "care") as tracker:
        places = asyncio.Semaphore(2)
        ordered: list[str] = []

        async def limited(request: Any, context: Any) -> Any:
            if places.locked():
                text = "too many requests for /gateway.Gateway, exceeding concurrency limit (2)"
                return await failing(grpc.StatusCode.UNKNOWN, text)(request, context)
            async with places:
                await asyncio.sleep(0.002)
                ordered.append(request.transaction_id)
                await net.add_block(request.transaction_id)
                return await submitted(request, context)

        net.peer.script["Submit"] = [limited] * 10_000
        contract = net.gateway.contract(MEMBER, "care", "kv")

        async def one() -> str:
            return (await tracker.settle(await contract.propose("put").endorse())).transaction_id

        settled = await asyncio.gather(*(one() for _ in range(60)))
    assert sorted(settled) == sorted(ordered)
    assert len(set(ordered)) == 60


def _ordering(net: Network, code: bytes) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        await net.add_block(request.transaction_id, codes=code)
        return await submitted(request, context)

    return answer
