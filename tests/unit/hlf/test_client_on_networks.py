"""The client against running networks: devnet, and official peers where their programs are found."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from fabric_protos.gateway.gateway_pb2 import PreparedTransaction, ProposedTransaction
from hlf.blocks import Block, BlockTransaction, Checkpoint
from hlf.commits import Commit, CommitTracker
from hlf.crypto import P256_ORDER, sign_digest
from hlf.deliver import deliver, follow
from hlf.errors import CommitUnknown, DeliverError, EndorseError, EvaluateError, HlfError, SubmitError
from hlf.gateway import Gateway, Timeouts, read_proposal, read_transaction, sign_proposal, sign_transaction
from hlf.identity import SigningIdentity
from hlf.orderers import OrdererSignatures
from support import raw_calls as raw
from support.devnet import Network
from support.networks import running_network

BOTH = ("HospitalA", "HospitalB")
PRIVATE_A = "_implicit_org_HospitalA"
LIMIT = 500
"""Calls that a peer's gateway takes at once."""


@pytest.fixture(scope="module", params=["devnet", "official"])
async def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    async with running_network(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def alice(network: Network) -> SigningIdentity:
    return network.member("HospitalA", "alice", attributes={"role": "tester"})


@pytest.fixture
async def gateway(network: Network) -> AsyncIterator[Gateway]:
    async with network.gateway("HospitalA") as opened:
        yield opened


@pytest.fixture
async def tracker(network: Network, gateway: Gateway, alice: SigningIdentity) -> AsyncIterator[CommitTracker]:
    async with CommitTracker(gateway, alice, network.channel) as following:
        yield following


async def submit(
    network: Network, gateway: Gateway, tracker: CommitTracker, who: SigningIdentity, *call: str, **transient: bytes
) -> Commit:
    contract = gateway.contract(who, network.channel, network.chaincode)
    transaction = await contract.propose(*call, transient=transient, endorsing_organizations=BOTH).endorse()
    return await tracker.settle(transaction)


async def transaction_of(network: Network, gateway: Gateway, reader: SigningIdentity, commit: Commit) -> Any:
    number = commit.block_number
    stream = deliver(gateway, reader, network.channel, start=number, stop=number, kind="private")
    [found] = [
        transaction
        async for block in stream
        for transaction in block.transactions
        if transaction.transaction_id == commit.transaction_id
    ]
    return found


async def test_what_is_signed_is_read_from_bytes(network: Network, gateway: Gateway, alice: SigningIdentity) -> None:
    contract = gateway.contract(alice, network.channel, network.chaincode)
    one, other = [contract.propose("put", key, "value", endorsing_organizations=BOTH) for key in ("one", "other")]
    proposals = [ProposedTransaction.FromString(each.bytes).proposal.proposal_bytes for each in (one, other)]
    transactions = [
        PreparedTransaction.FromString((await each.endorse()).bytes).envelope.payload for each in (one, other)
    ]
    call = read_proposal(proposals[0])
    assert (call.function, call.arguments, call.chaincode) == ("put", (b"one", b"value"), network.chaincode)
    assert (call.transaction_id, call.creator) == (one.transaction_id, alice.identity)
    read = read_transaction(transactions[0], proposals[0])
    assert [(write.key, write.value) for write in read.writes] == [("one", b"value")]
    assert {endorser.msp_id for endorser in read.endorsers} == set(BOTH)
    with pytest.raises(ValueError, match="not the one that was proposed"):
        read_transaction(transactions[0], proposals[1])
    with pytest.raises(ValueError, match="cannot be read"):
        read_transaction(transactions[0][:-7], proposals[0])


async def test_a_transaction_is_found_in_its_block(
    network: Network, gateway: Gateway, tracker: CommitTracker, alice: SigningIdentity
) -> None:
    commit = await submit(network, gateway, tracker, alice, "put", "found", "value")
    transaction: BlockTransaction = await transaction_of(network, gateway, alice, commit)
    assert transaction.is_valid
    assert [(write.key, write.value) for write in transaction.writes] == [("found", b"value")]
    assert (transaction.creator.common_name, transaction.creator.attributes) == ("alice", {"role": "tester"})
    assert {endorser.msp_id for endorser in transaction.endorsers} == set(BOTH)
    assert transaction.args == (b"put", b"found", b"value")
    assert await tracker.lookup(commit.transaction_id) == commit
    assert await gateway.commit_status(alice, network.channel, commit.transaction_id) == commit
    assert await tracker.lookup("0f" * 32) is None


async def test_private_data_reaches_its_own_organization(
    network: Network, gateway: Gateway, tracker: CommitTracker, alice: SigningIdentity
) -> None:
    call = ("put_both", PRIVATE_A, "secret", "public-of-secret")
    commit = await submit(network, gateway, tracker, alice, *call, value=b"sealed")
    transaction = await transaction_of(network, gateway, alice, commit)
    assert [(write.collection, write.key, write.value) for write in transaction.private_writes] == [
        (PRIVATE_A, "secret", b"sealed")
    ]
    async with network.gateway("HospitalB") as gateway_b:
        bob = network.member("HospitalB", "bob")
        async with CommitTracker(gateway_b, bob, network.channel) as tracker_b:
            await tracker_b.wait_for_block(commit.block_number, 10)
        transaction = await transaction_of(network, gateway_b, bob, commit)
    assert transaction.private_writes == ()
    assert transaction.missing_private_writes == transaction.collection_writes
    assert transaction.collection_writes[0].is_of("secret")


async def test_every_block_is_chained_and_signed_by_the_orderers(
    network: Network, gateway: Gateway, tracker: CommitTracker, alice: SigningIdentity
) -> None:
    commit = await submit(network, gateway, tracker, alice, "put", "signed", "value")
    [genesis] = [block async for block in deliver(gateway, alice, network.channel, start=0, stop=0)]
    verifier = OrdererSignatures(genesis)
    stream = deliver(gateway, alice, network.channel, start=0, stop=commit.block_number, verifier=verifier)
    assert [block.number async for block in stream] == list(range(commit.block_number + 1))


@pytest.mark.parametrize("msp_id", BOTH)
async def test_after_a_checkpoint_a_new_reader_goes_on_with_the_next_block_at_any_peer(
    network: Network, gateway: Gateway, tracker: CommitTracker, alice: SigningIdentity, msp_id: str
) -> None:
    commit = await submit(network, gateway, tracker, alice, "put", f"after-{msp_id}", "value")
    last = commit.block_number
    blocks = [block async for block in deliver(gateway, alice, network.channel, start=0, stop=last)]
    verifier = OrdererSignatures(blocks[0])
    async with network.gateway(msp_id) as other, CommitTracker(other, alice, network.channel) as there:
        await there.wait_for_block(last, 20)
        for seen in blocks[-3:-1]:
            kept = Checkpoint(seen.number, seen.header_hash)
            resumed = deliver(other, alice, network.channel, start=kept, stop=last, verifier=verifier)
            assert [block.raw for block in blocks[seen.number + 1 :]] == [block.raw async for block in resumed]


async def test_each_step_signed_far_away(
    network: Network, gateway: Gateway, tracker: CommitTracker, alice: SigningIdentity
) -> None:
    contract = gateway.contract(alice.identity, network.channel, network.chaincode)
    proposal = contract.propose("put", "offline", "value", endorsing_organizations=BOTH)
    transaction = await gateway.proposal(proposal.bytes, sign_proposal(proposal.bytes, alice)).endorse()
    signature = sign_transaction(transaction.bytes, alice, proposal=proposal.bytes)
    commit = await tracker.settle(gateway.transaction(transaction.bytes, signature))
    request = transaction.commit_status_request()
    status = await request.with_signature(sign_digest(alice.private_key, request.digest)).status()
    assert status == commit


async def test_a_high_s_signature_is_refused(network: Network, gateway: Gateway, alice: SigningIdentity) -> None:
    proposal = gateway.contract(alice.identity, network.channel, network.chaincode).propose(
        "put", "high", "s", endorsing_organizations=BOTH
    )
    r, s = decode_dss_signature(sign_digest(alice.private_key, proposal.digest))
    with pytest.raises(EndorseError):
        await proposal.with_signature(encode_dss_signature(r, P256_ORDER - s)).endorse()
    await proposal.with_signature(encode_dss_signature(r, s)).endorse()


async def test_what_the_chaincode_refuses_is_told_with_its_code(
    network: Network, gateway: Gateway, alice: SigningIdentity
) -> None:
    contract = gateway.contract(alice, network.channel, network.chaincode)
    with pytest.raises(EvaluateError) as evaluating:
        await contract.evaluate("refuse", "404", "NOT_THERE", "no such thing", target_organizations=["HospitalA"])
    with pytest.raises(EndorseError) as endorsing:
        await contract.propose("refuse", "404", "NOT_THERE", "no such thing", endorsing_organizations=BOTH).endorse()
    for raised in (evaluating.value, endorsing.value):
        assert raised.chaincode_response == (404, "NOT_THERE: no such thing")
        assert raised.unavailable_organizations == frozenset()
        assert not raised.retriable


async def test_an_unknown_organization_is_named(network: Network, gateway: Gateway, alice: SigningIdentity) -> None:
    contract = gateway.contract(alice, network.channel, network.chaincode)
    with pytest.raises(EndorseError) as raised:
        await contract.propose("put", "k", "v", endorsing_organizations=["HospitalA", "HospitalC"]).endorse()
    assert raised.value.unavailable_organizations == {"HospitalC"}


async def test_a_stranger_reads_no_blocks(network: Network, gateway: Gateway) -> None:
    stranger = network.member("HospitalA", role="")
    with pytest.raises(DeliverError, match="FORBIDDEN") as raised:
        await anext(deliver(gateway, stranger, network.channel))
    assert not raised.value.retriable


async def test_a_stopped_chaincode_is_told_by_its_organization(
    network: Network, gateway: Gateway, tracker: CommitTracker, alice: SigningIdentity
) -> None:
    contract = gateway.contract(alice, network.channel, network.chaincode)
    await network.stop_chaincode("HospitalB")
    with pytest.raises(EndorseError) as raised:
        await contract.propose("put", "k", "v", endorsing_organizations=BOTH).endorse(timeout=20)
    assert raised.value.unavailable_organizations == {"HospitalB"}
    await network.start_chaincode("HospitalB")
    await _eventually_endorsed(network, gateway, alice)


async def test_a_stopped_peer_is_told_by_its_organization_and_another_gateway_takes_over(
    network: Network, alice: SigningIdentity
) -> None:
    endpoints = [network.endpoint(msp_id) for msp_id in BOTH]
    async with Gateway(endpoints, Timeouts(endorse=20)) as gateway:
        contract = gateway.contract(alice, network.channel, network.chaincode)
        stream = follow(gateway, alice, network.channel, start=0)
        seen: list[Block] = [await anext(stream), await anext(stream)]
        await network.stop_peer("HospitalA")
        try:
            assert await contract.evaluate("get", "found", target_organizations=["HospitalB"])
            seen.append(await anext(stream))
            with pytest.raises(EndorseError) as raised:
                await contract.propose("put", "k", "v", endorsing_organizations=BOTH).endorse()
        finally:
            await network.start_peer("HospitalA")
        await stream.aclose()
    assert [block.number for block in seen] == [0, 1, 2]
    assert raised.value.unavailable_organizations == {"HospitalA"}


async def test_a_restart_of_the_peer_under_load_loses_and_doubles_nothing(
    network: Network, alice: SigningIdentity
) -> None:
    timeouts = Timeouts(endorse=10, submit=10, connect=2)
    sent: dict[str, Commit | None] = {}
    async with (
        network.gateway("HospitalA", timeouts) as gateway,
        CommitTracker(gateway, alice, network.channel) as tracker,
    ):
        contract = gateway.contract(alice, network.channel, network.chaincode)
        stop = asyncio.Event()

        async def keep_putting(worker: int) -> None:
            for number in range(10_000):
                if stop.is_set():
                    return
                proposal = contract.propose("put", f"load-{worker}-{number}", "v", endorsing_organizations=BOTH)
                try:
                    transaction = await proposal.endorse()
                    sent[transaction.transaction_id] = None
                    sent[transaction.transaction_id] = await tracker.settle(transaction, timeout_seconds=5)
                except (EndorseError, CommitUnknown):
                    await asyncio.sleep(0.05)
                except SubmitError as error:
                    assert not error.is_outcome_unknown
                    del sent[error.transaction_id or ""]

        workers = [asyncio.create_task(keep_putting(worker)) for worker in range(8)]
        await asyncio.sleep(1)
        await network.stop_peer("HospitalA")
        before = len(sent)
        await asyncio.sleep(1)
        await network.start_peer("HospitalA")
        await asyncio.sleep(2)
        stop.set()
        await asyncio.gather(*workers)
        assert len(sent) > before > 8
        await _check_against_the_ledger(network, gateway, tracker, alice, sent)


async def test_a_full_gateway_is_asked_again_until_it_has_room_and_loses_and_doubles_nothing(
    network: Network, tracker: CommitTracker, alice: SigningIdentity
) -> None:
    async with (
        raw.calls_of(network.endpoint("HospitalA")) as calls,
        network.gateway("HospitalA", Timeouts(endorse=60, submit=60)) as gateway,
    ):
        waiting = await _fill(calls, alice)
        names = [f"full-{number}" for number in range(20)]
        writing = [asyncio.create_task(submit(network, gateway, tracker, alice, "put", name, "v")) for name in names]
        await asyncio.sleep(1)
        assert not any(task.done() for task in writing)
        for call in waiting:
            call.cancel()
        sent: dict[str, Commit | None] = {commit.transaction_id: commit for commit in await asyncio.gather(*writing)}
        assert all(commit is not None and commit.is_valid for commit in sent.values())
        await _check_against_the_ledger(network, gateway, tracker, alice, sent, "full-")


async def _fill(calls: raw.Calls, who: SigningIdentity) -> list[Any]:
    """Calls that wait, as many as the gateway takes: it turns others away."""
    waiting: list[Any] = []
    async with asyncio.timeout(120):
        while True:
            waiting = [call for call in waiting if not call.done()]
            waiting += [
                calls.gateway.CommitStatus(raw.commit_status(who, f"{each:064x}"))
                for each in range(LIMIT - len(waiting))
            ]
            try:
                await calls.gateway.Evaluate(raw.evaluate(raw.proposal(who, "get", "k"), ["HospitalA"]))
            except grpc.aio.AioRpcError as error:
                assert "exceeding concurrency limit (500)" in (error.details() or "")
                return waiting
            await asyncio.sleep(0.05)


async def _check_against_the_ledger(
    network: Network,
    gateway: Gateway,
    tracker: CommitTracker,
    reader: SigningIdentity,
    sent: dict[str, Commit | None],
    prefix: str = "load-",
) -> None:
    """Every id we sent stands on the ledger once, as we were told; and nothing that we did not send."""
    last = tracker.height - 1
    found: dict[str, list[int]] = {}
    async for block in deliver(gateway, reader, network.channel, start=0, stop=last):
        for transaction in block.transactions:
            if transaction.is_valid and any(write.key.startswith(prefix) for write in transaction.writes):
                found.setdefault(transaction.transaction_id, []).append(block.number)
    told = {id_: [commit.block_number] for id_, commit in sent.items() if commit}
    unknown = {id_ for id_, commit in sent.items() if commit is None}
    assert {id_: blocks for id_, blocks in found.items() if id_ not in unknown} == told
    for id_ in unknown:
        looked_up = await tracker.lookup(id_)
        assert [looked_up.block_number] == found[id_] if looked_up else id_ not in found


async def _eventually_endorsed(network: Network, gateway: Gateway, who: SigningIdentity) -> None:
    contract = gateway.contract(who, network.channel, network.chaincode)
    async with asyncio.timeout(30):
        while True:
            try:
                await contract.propose("put", "k", "v", endorsing_organizations=BOTH).endorse()
                return
            except HlfError:
                await asyncio.sleep(0.2)
