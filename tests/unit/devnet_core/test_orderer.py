"""Order, blocks, signatures, and what the orderer refuses; and peers that follow it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.common import common_pb2
from hlf import crypto
from hlf.identity import Identity
from hlf_devnet.block_cutter import BatchSettings, BlockCutter
from hlf_devnet.blockstore import data_hash, header_bytes, header_hash
from hlf_devnet.committer import Committer
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.orderer import BroadcastRefused, LedgerCorrupt, LedgerUnwritable, Orderer
from hlf_devnet.transient import TransientStore
from hlf_devnet.validator import ValidatedBlock, Validator
from support.devnet_channel import CHAINCODE, CHANNEL, Channel, Envelope

A, B = "HospitalA", "HospitalB"
OF_A = "_implicit_org_HospitalA"
SLOW = BatchSettings(timeout_ms=60_000, max_messages=3, max_bytes=60_000)
QUICK = BatchSettings(timeout_ms=20, max_messages=24)


def open_orderer(channel: Channel, batch: BatchSettings) -> Orderer:
    """A new chain gets `batch`; one that is there has its own."""
    folder, genesis = channel.folder / "orderer", channel.new_genesis(batch)
    return Orderer.open(folder, CHANNEL, channel.orderer_signer, channel.bundles, genesis)


@asynccontextmanager
async def ordering(channel: Channel, batch: BatchSettings = QUICK) -> AsyncIterator[Orderer]:
    orderer = open_orderer(channel, batch)
    async with running(orderer.run()):
        yield orderer
    orderer.close()


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def transactions_of(orderer: Orderer, number: int) -> list[bytes]:
    return list(common_pb2.Block.FromString(orderer.block_bytes(number)).data.data)


async def test_submitted_envelopes_stand_in_blocks_in_their_order(channel: Channel) -> None:
    async with ordering(channel) as orderer:
        envelopes = [channel.put(f"k{number}").encode() for number in range(5)]
        await asyncio.gather(*(orderer.submit(envelope) for envelope in envelopes))
        found = [content for number in range(1, orderer.height) for content in transactions_of(orderer, number)]
        assert found == envelopes


async def test_a_full_batch_is_cut_at_once_and_a_lone_envelope_after_the_timeout(channel: Channel) -> None:
    async with ordering(channel, SLOW) as orderer:
        envelopes = [channel.put(f"k{number}").encode() for number in range(3)]
        await asyncio.wait_for(asyncio.gather(*map(orderer.submit, envelopes)), 5)
        assert [len(transactions_of(orderer, 1)), orderer.height] == [3, 2]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(orderer.submit(envelopes[0]), 0.1)
    _remove(channel.folder / "orderer")
    async with ordering(channel, QUICK) as orderer:
        await asyncio.wait_for(orderer.submit(envelopes[0]), 5)
        assert len(transactions_of(orderer, 1)) == 1


async def test_blocks_are_chained_and_signed_by_the_orderer(channel: Channel) -> None:
    async with ordering(channel) as orderer:
        for number in range(2):
            await orderer.submit(channel.put(f"k{number}").encode())
        previous = common_pb2.Block.FromString(orderer.block_bytes(0)).header
        for number in (1, 2):
            block = common_pb2.Block.FromString(orderer.block_bytes(number))
            assert block.header.previous_hash == header_hash(previous)
            assert block.header.data_hash == data_hash(block.data.data)
            _check_signature(block, channel)
            previous = block.header


def _check_signature(block: Any, channel: Channel) -> None:
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
    (signature,) = metadata.signatures
    creator = common_pb2.SignatureHeader.FromString(signature.signature_header).creator
    signer = Identity.from_serialized(creator)
    assert signer == channel.orderer_signer.identity
    assert signer.verify(signature.signature, metadata.value + signature.signature_header + header_bytes(block.header))


def by_a_peer(channel: Channel) -> bytes:
    return channel.put("k").with_(creator=channel.peers[A]).encode()


def by_a_stranger(channel: Channel) -> bytes:
    return channel.put("k").with_(creator=channel.orderer_signer).encode()


def with_high_s(channel: Channel) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    message = common_pb2.Envelope.FromString(channel.put("k").encode())
    r, s = decode_dss_signature(message.signature)
    message.signature = encode_dss_signature(r, crypto.P256_ORDER - s)
    return bytes(message.SerializeToString())


def expired(channel: Channel) -> bytes:
    past = datetime.now(UTC) - timedelta(days=2)
    old = channel.members[A].identity(now=past - timedelta(days=1), not_after=past)
    return channel.put("k").with_(creator=old).encode()


def by_unknown(channel: Channel) -> bytes:
    from hlf.identity import SigningIdentity

    unknown = SigningIdentity("Elsewhere", channel.client.certificate_pem, channel.client.private_key)
    return channel.put("k").with_(creator=unknown).encode()


REFUSED: list[tuple[str, int, str, Callable[[Channel], bytes]]] = [
    ("nothing", 400, "channel does not exist", lambda _: b""),
    ("noise", 400, "malformed", lambda _: b"\xff\xff"),
    ("another channel", 400, "channel does not exist", lambda channel: channel.put("k").with_(channel="x").encode()),
    (
        "a configuration",
        400,
        "cannot be processed directly",
        lambda channel: channel.put("k").with_(header={"type": common_pb2.CONFIG}).encode(),
    ),
    (
        "too large",
        400,
        "exceeds maximum allowed 600000 bytes",
        lambda channel: channel.put("k", b"x" * 700_000).encode(),
    ),
    ("a high-S signature", 403, "permission denied", with_high_s),
    ("an expired certificate", 400, "broadcast client identity expired", expired),
    ("somebody outside of all organizations", 403, "permission denied", by_unknown),
]


@pytest.mark.parametrize(("status", "text", "make"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_may_not_be_ordered_is_refused_with_fabrics_words(
    channel: Channel, status: int, text: str, make: Callable[[Channel], bytes]
) -> None:
    async with ordering(channel, SLOW) as orderer:
        with pytest.raises(BroadcastRefused, match=text) as caught:
            await orderer.submit(make(channel))
        assert caught.value.status == status
        assert orderer.height == 1


async def test_a_peers_identity_may_not_write_and_the_orderers_may(channel: Channel) -> None:
    async with ordering(channel) as orderer:
        with pytest.raises(BroadcastRefused):
            await orderer.submit(by_a_peer(channel))
        await orderer.submit(by_a_stranger(channel))


async def test_a_revoked_client_is_refused(channel: Channel) -> None:
    async with ordering(channel) as orderer:
        await orderer.submit(channel.put("k").encode())
        member = channel.members[A]
        member.crl_file.parent.mkdir()
        serial = channel.client.identity.certificate.serial_number
        member.crl_file.write_bytes(member.authority.crl([(serial, datetime.now(UTC))]))
        with pytest.raises(BroadcastRefused, match="permission denied"):
            await orderer.submit(channel.put("k").encode())


async def test_a_stopped_orderer_refuses_who_waits_and_who_comes(channel: Channel) -> None:
    orderer = open_orderer(channel, SLOW)
    async with running(orderer.run()):
        waiting = asyncio.create_task(orderer.submit(channel.put("k").encode()))
        await asyncio.sleep(0.05)
    for refused in (waiting, orderer.submit(channel.put("k").encode())):
        with pytest.raises(BroadcastRefused) as caught:
            await refused
        assert caught.value.status == common_pb2.SERVICE_UNAVAILABLE
    orderer.close()


async def test_a_full_disk_ends_the_orderer_with_folder_and_block(channel: Channel) -> None:
    orderer = open_orderer(channel, QUICK)
    (pages,) = orderer._connection.execute("PRAGMA page_count").fetchone()
    orderer._connection.execute(f"PRAGMA max_page_count={pages + 1}")
    run = asyncio.create_task(orderer.run())
    with pytest.raises(BroadcastRefused):
        await orderer.submit(channel.put("k", b"x" * 100_000).encode())
    with pytest.raises(LedgerUnwritable, match=f"{channel.folder / 'orderer'}: block 1 cannot be written: SQLITE_FULL"):
        await run
    orderer.close()


async def test_a_damaged_chain_is_not_opened(channel: Channel) -> None:
    async with ordering(channel) as orderer:
        await orderer.submit(channel.put("k").encode())
        orderer._connection.execute("UPDATE block SET content = substr(content, 1, 50) WHERE number = 1")
    with pytest.raises(LedgerCorrupt, match=f"{channel.folder / 'orderer'}: block 1: "):
        open_orderer(channel, QUICK)


class Peer:
    """A ledger that follows an orderer."""

    def __init__(self, channel: Channel, folder: Path, msp_id: str, validator: Validator) -> None:
        self.ledger = PeerLedger.open(folder / msp_id, msp_id, CHANNEL)
        self.transient = TransientStore.open(folder / msp_id)
        self.committed: list[ValidatedBlock] = []
        self._validator = validator

    def follow(self, orderer: Orderer, *others: "Peer") -> Any:
        stores = [other.transient for other in others]
        committer = Committer(orderer, self._validator, self.ledger, self.transient, lambda: stores)
        committer.listeners.append(self.committed.append)
        return running(committer.run())

    def close(self) -> None:
        self.ledger.close()
        self.transient.close()


def private_put(channel: Channel, value: bytes = b"secret") -> Envelope:
    return channel.endorse(lambda simulator: simulator.put_private(CHAINCODE, OF_A, "p", value))


async def test_peers_follow_the_orderer_and_one_that_was_away_catches_up(channel: Channel, tmp_path: Path) -> None:
    validator = Validator(CHANNEL, channel.bundles)
    a, b = (Peer(channel, tmp_path, msp_id, validator) for msp_id in (A, B))
    async with ordering(channel) as orderer:
        definition = channel.a.block(1).data.data[0]
        async with a.follow(orderer):
            async with b.follow(orderer):
                await orderer.submit(definition)
                await asyncio.wait_for(asyncio.gather(a.ledger.wait_for_height(2), b.ledger.wait_for_height(2)), 5)
            for number in range(4):
                await orderer.submit(channel.put(f"k{number}").encode())
            await asyncio.wait_for(a.ledger.wait_for_height(orderer.height), 5)
            assert b.ledger.height == 2
            async with b.follow(orderer):
                await asyncio.wait_for(b.ledger.wait_for_height(orderer.height), 5)
        assert [block.number for block in b.committed] == list(range(orderer.height))
        assert all(tx.code == 0 for block in b.committed for tx in block.transactions)
        assert a.ledger.commit_hash == b.ledger.commit_hash != b""
        for number in range(orderer.height):
            assert a.ledger.block_bytes(number) == b.ledger.block_bytes(number)
    a.close()
    b.close()


async def test_a_late_peer_takes_the_codes_that_others_recorded(channel: Channel, tmp_path: Path) -> None:
    """The client's certificate is revoked in between; a fresh judgement would differ."""
    validator = Validator(CHANNEL, channel.bundles)
    a, b = (Peer(channel, tmp_path, msp_id, validator) for msp_id in (A, B))
    async with ordering(channel) as orderer, a.follow(orderer):
        for envelope in (channel.a.block(1).data.data[0], channel.put("k").encode(), channel.put("l").encode()):
            await orderer.submit(envelope)
        await asyncio.wait_for(a.ledger.wait_for_height(orderer.height), 5)
        member = channel.members[A]
        member.crl_file.parent.mkdir()
        serial = channel.client.identity.certificate.serial_number
        member.crl_file.write_bytes(member.authority.crl([(serial, datetime.now(UTC))]))
        async with b.follow(orderer):
            await asyncio.wait_for(b.ledger.wait_for_height(orderer.height), 5)
        assert a.ledger.commit_hash == b.ledger.commit_hash
    a.close()
    b.close()


async def test_a_peer_does_not_follow_an_orderer_that_lost_blocks_or_tells_another_chain(
    channel: Channel, tmp_path: Path
) -> None:
    validator = Validator(CHANNEL, channel.bundles)
    a = Peer(channel, tmp_path, A, validator)
    async with ordering(channel) as orderer, a.follow(orderer):
        await orderer.submit(channel.put("k").encode())
        await asyncio.wait_for(a.ledger.wait_for_height(2), 5)
    _remove(channel.folder / "orderer")
    async with ordering(channel) as orderer:
        committer = Committer(orderer, validator, a.ledger, a.transient)
        with pytest.raises(LedgerCorrupt, match=f"{channel.folder / 'orderer'}: block 1: the orderer lost it"):
            await committer.run()
        for _ in range(2):
            await orderer.submit(channel.put("other").encode())
        with pytest.raises(LedgerCorrupt, match=f"{a.ledger.folder}: block 2: .* does not follow"):
            await committer.run()
    a.close()


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.mark.parametrize("keeper", [A, B])
async def test_private_values_come_from_the_own_transient_store_or_from_another_peers(
    channel: Channel, tmp_path: Path, keeper: str
) -> None:
    validator = Validator(CHANNEL, channel.bundles)
    a, b = (Peer(channel, tmp_path, msp_id, validator) for msp_id in (A, B))
    stores = {A: a.transient, B: b.transient}
    async with ordering(channel) as orderer, a.follow(orderer, b):
        await orderer.submit(channel.a.block(1).data.data[0])
        envelope, unendorsed = private_put(channel), private_put(channel, b"never endorsed")
        assert envelope.private is not None and unendorsed.private is not None
        stores[keeper].persist(envelope.tx_id, 2, unendorsed.private)
        stores[keeper].persist(envelope.tx_id, 2, envelope.private)
        await orderer.submit(envelope.encode())
        await asyncio.wait_for(a.ledger.wait_for_height(3), 5)
        with a.ledger.snapshot() as snapshot:
            found = snapshot.get_private(CHAINCODE, OF_A, "p")
        assert found is not None and found.value == b"secret"
        await asyncio.sleep(0)
        assert a.transient.get(envelope.tx_id) == []
        purge = channel.endorse(lambda simulator: simulator.purge_private(CHAINCODE, OF_A, "p"))
        await orderer.submit(purge.encode())
        await asyncio.wait_for(a.ledger.wait_for_height(4), 5)
        await asyncio.sleep(0)
        assert not [file for file in a.ledger.folder.iterdir() if b"secret" in file.read_bytes()]
    a.close()
    b.close()


def test_a_transient_store_keeps_distinct_sets_until_they_commit_or_grow_old(tmp_path: Path) -> None:
    store = TransientStore.open(tmp_path, retention_blocks=10)
    for content in (b"one", b"two", b"one"):
        store.persist("tx", 5, content)
    store.persist("late", 9, b"x")
    store.close()
    store = TransientStore.open(tmp_path, retention_blocks=10)
    assert store.get("tx") == [b"one", b"two"]
    store.forget([], 16)
    assert (store.get("tx"), store.get("late")) == ([], [b"x"])
    store.forget(["late"], 16)
    assert store.transactions() == []
    store.close()


def test_batches_follow_fabrics_block_cutter() -> None:
    cutter: BlockCutter[str] = BlockCutter(BatchSettings(max_messages=3, max_bytes=10))
    steps = [("a", 4), ("b", 4), ("c", 4), ("d", 20), ("e", 1), ("f", 30), ("g", 1), ("h", 1), ("i", 1), ("j", 1)]
    cut = [batch for name, size in steps for batch in cutter.add(name, size)]
    assert cut == [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g", "h", "i"]]
    assert cutter.cut() == ["j"]
    assert cutter.is_empty
