"""A ledger that was killed, torn, or changed on disk."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hlf_devnet.blockstore import data_hash, header_hash
from hlf_devnet.ledger import LedgerCorrupt, LedgerUnwritable, PeerLedger
from hlf_devnet.simulator import Simulator
from support import committing_process
from support.devnet_channel import CHAINCODE, CHANNEL, Channel

A = "HospitalA"
OF_A = "_implicit_org_HospitalA"
TESTS = Path(committing_process.__file__).parent.parent


def check_chain(ledger: PeerLedger) -> None:
    previous = b""
    for number in range(ledger.height):
        block = ledger.block(number)
        assert block.header.number == number
        assert block.header.previous_hash == previous
        assert block.header.data_hash == data_hash(block.data.data)
        previous = header_hash(block.header)


async def test_a_killed_process_loses_no_block_that_it_told_of(tmp_path: Path) -> None:
    Channel.create(tmp_path).close()
    random.seed(7)
    for _ in range(6):
        told = await _commit_until_killed(tmp_path, seconds=random.uniform(0.02, 0.4))
        channel = Channel.open(tmp_path)
        assert channel.a.height > told
        for ledger in channel.ledgers.values():
            check_chain(ledger)
            assert ledger.height == channel.a.height
        assert channel.ledgers[A].commit_hash == channel.ledgers["HospitalB"].commit_hash
        _check_state_of_last_blocks(channel)
        channel.close()


async def _commit_until_killed(folder: Path, seconds: float) -> int:
    """The number of the last block that the process told of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        committing_process.__file__,
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    lines = (await process.stdout.read()).split(b"\n")
    await process.wait()
    told = [int(line.removeprefix(b"committed ")) for line in lines[:-1]]
    return told[-1] if told else 1


def _check_state_of_last_blocks(channel: Channel) -> None:
    """Each key has the value of the last block that wrote it, in public and in private."""
    newest = channel.a.height - 1
    simulator = Simulator(channel.a, "check")
    for number in range(max(2, newest - 4), newest + 1):
        assert simulator.get_state(CHAINCODE, f"key-{number % 7}") == b"%d" % number
        assert simulator.get_private(CHAINCODE, OF_A, f"p{number % 5}") == b"%d" % number
    simulator.close()


def _write_both(simulator: Simulator, number: int) -> None:
    simulator.put_state(CHAINCODE, f"k{number}", b"v" * 200)
    simulator.put_private(CHAINCODE, OF_A, f"p{number}", b"s" * 200)


@pytest.fixture
def filled(channel: Channel) -> Channel:
    """Some of everything that a ledger stores."""
    for number in range(5):
        envelope = channel.endorse(partial(_write_both, number=number))
        assert channel.commit(envelope) == ["VALID"]
    for ledger in channel.ledgers.values():
        ledger.close()
    return channel


def reopen(channel: Channel) -> PeerLedger:
    return PeerLedger.open(channel.folder / "ledgers" / A, A, CHANNEL)


def test_what_was_closed_opens_again(filled: Channel) -> None:
    ledger = reopen(filled)
    assert ledger.height == 7
    check_chain(ledger)
    ledger.close()


def change(sql: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with sqlite3.connect(folder / "ledger.sqlite3") as connection:
            assert connection.execute(sql).rowcount == 1
        connection.close()

    return apply


DAMAGE = [
    ("a byte of block 3", 3, change("UPDATE block SET content = x'00' || substr(content, 2) WHERE number = 3")),
    ("block 4 torn", 4, change("UPDATE block SET content = substr(content, 1, 100) WHERE number = 4")),
    ("block 5 missing", 5, change("DELETE FROM block WHERE number = 5")),
    ("the hash of block 2", 2, change("UPDATE block SET hash = x'00' WHERE number = 2")),
    ("a value of block 6", 6, change("UPDATE state SET value = x'00' WHERE block = 6")),
    ("a version of block 6", 1, change("UPDATE state SET block = 1 WHERE block = 6")),
    ("the hash of a private value", 4, change("UPDATE hashed SET value = x'00' WHERE block = 4")),
    ("a private value", 3, change("UPDATE private SET value = x'00' WHERE block = 3")),
    ("private data of block 5", 5, change("UPDATE private_data SET content = x'' WHERE block = 5")),
    ("the history of a key", 4, change("UPDATE history SET tx = 9 WHERE block = 4")),
    ("the code of a transaction", 3, change("UPDATE tx SET code = 11 WHERE block = 3")),
]


@pytest.mark.parametrize(("number", "damage"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_damage_is_told_in_one_line_with_folder_and_block(
    filled: Channel, number: int, damage: Callable[[Path], None]
) -> None:
    folder = filled.folder / "ledgers" / A
    damage(folder)
    with pytest.raises(LedgerCorrupt) as caught:
        reopen(filled)
    assert str(caught.value).startswith(f"{folder}: block {number}: ")
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_anywhere_is_noticed_or_means_nothing(filled: Channel) -> None:
    """Most of a file is content; what is not (free space, counters) may change without a difference."""
    file = filled.folder / "ledgers" / A / "ledger.sqlite3"
    intact = file.read_bytes()
    expected = _everything(reopen(filled))
    random.seed(11)
    noticed = 0
    for position in [*range(0, 100, 13), *(random.randrange(len(intact)) for _ in range(250))]:
        file.write_bytes(intact[:position] + bytes((intact[position] ^ 0x40,)) + intact[position + 1 :])
        try:
            found = _everything(reopen(filled))
        except LedgerCorrupt as error:
            assert str(file.parent) in str(error)
            noticed += 1
        else:
            assert found == expected, f"a change at {position} was served"
    assert noticed > 5


def _everything(ledger: PeerLedger) -> object:
    try:
        with ledger.snapshot() as snapshot:
            state = list(snapshot.range(CHAINCODE, "", ""))
            private = list(snapshot.private_range(CHAINCODE, OF_A, "", ""))
            history = [list(snapshot.history(CHAINCODE, f"k{number}")) for number in range(5)]
        blocks = [ledger.block_bytes(number) for number in range(ledger.height)]
        return state, private, history, blocks, [ledger.private_data(number) for number in range(ledger.height)]
    finally:
        ledger.close()


def test_a_torn_log_loses_the_end_and_nothing_before(filled: Channel, tmp_path: Path) -> None:
    ledger = reopen(filled)
    channel = filled
    channel.ledgers[A] = ledger
    copy = tmp_path / "copy"
    copy.mkdir()
    ledger.commit(channel.validator.validate(channel.block([channel.put("more").encode()]), ledger), {})
    for file in ledger.folder.iterdir():
        if not file.name.endswith("-shm"):
            (copy / file.name).write_bytes(file.read_bytes())
    ledger.close()
    log = copy / "ledger.sqlite3-wal"
    log.write_bytes(log.read_bytes()[:-1000])
    torn = PeerLedger.open(copy, A, CHANNEL)
    assert torn.height == 7
    check_chain(torn)
    torn.close()


def test_a_ledger_of_another_channel_or_organization_is_not_used(filled: Channel) -> None:
    folder = filled.folder / "ledgers" / A
    for msp_id, channel in ((A, "other"), ("HospitalB", CHANNEL)):
        with pytest.raises(LedgerCorrupt, match="belongs to another"):
            PeerLedger.open(folder, msp_id, channel)


def test_a_full_disk_is_told_and_the_block_can_be_committed_later(channel: Channel) -> None:
    envelope = channel.put("k", os.urandom(200_000)).encode()
    validated = channel.validator.validate(channel.block([envelope]), channel.a)
    connection = channel.a._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(LedgerUnwritable, match=f"{channel.a.folder}: block 2 cannot be written: SQLITE_FULL"):
        channel.a.commit(validated, {})
    assert channel.a.height == 2
    connection.execute("PRAGMA max_page_count=1000000")
    channel.a.commit(validated, {})
    assert channel.a.height == 3


def test_a_snapshot_keeps_its_height_while_blocks_are_committed(channel: Channel) -> None:
    channel.commit(channel.put("k", b"old"))
    with channel.a.snapshot() as before:
        channel.commit(channel.put("k", b"new"), channel.put("other"))
        with channel.a.snapshot() as after:
            old, new = before.get(CHAINCODE, "k"), after.get(CHAINCODE, "k")
            assert old is not None and new is not None
            assert (old.value, new.value) == (b"old", b"new")
            assert before.get(CHAINCODE, "other") is None
            assert [key for key, _ in before.range(CHAINCODE, "", "")] == ["k"]
            assert [key for key, _ in after.range(CHAINCODE, "", "")] == ["k", "other"]


def test_history_is_newest_first_and_tells_deletes(channel: Channel) -> None:
    first, second = channel.put("k", b"1"), channel.put("k", b"2")
    channel.commit(first, second)
    third = channel.endorse(lambda simulator: simulator.delete_state(CHAINCODE, "k"))
    channel.commit(third)
    with channel.a.snapshot() as snapshot:
        found = [(change.tx_id, change.value, change.is_delete) for change in snapshot.history(CHAINCODE, "k")]
    assert found == [(third.tx_id, b"", True), (second.tx_id, b"2", False), (first.tx_id, b"1", False)]


def test_a_block_is_found_by_number_hash_and_transaction(channel: Channel) -> None:
    envelope = channel.put("k")
    channel.commit(envelope)
    ledger = channel.a
    assert ledger.block_number_of_transaction(envelope.tx_id) == 2
    assert ledger.block_number_of_hash(ledger.chain_info().currentBlockHash) == 2
    assert ledger.block_number_of_hash(b"nothing") is None
    assert ledger.block_number_of_transaction("nothing") is None
    assert ledger.transaction("nothing") is None
    with pytest.raises(KeyError):
        ledger.block_bytes(3)


async def test_waiting_for_a_height_ends_when_it_is_reached(channel: Channel) -> None:
    waiting = asyncio.create_task(channel.a.wait_for_height(4))
    await asyncio.sleep(0)
    channel.commit(channel.put("k"))
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.commit(channel.put("k"))
    await asyncio.wait_for(waiting, 1)
    await channel.a.wait_for_height(3)


def test_keys_are_ranged_in_the_order_of_their_bytes(channel: Channel) -> None:
    keys = ["a", "ab", "b", "\x00org\x00A\x00", "é", "𝄞", "\U0010ffff", "B"]
    channel.commit(*(channel.put(key) for key in keys))
    with channel.a.snapshot() as snapshot:
        assert [key for key, _ in snapshot.range(CHAINCODE, "", "")] == sorted(keys, key=str.encode)
        assert [key for key, _ in snapshot.range(CHAINCODE, "a", "b")] == ["a", "ab"]
        assert [key for key, _ in snapshot.range(CHAINCODE, "\x00org\x00", "\x00org\U0010ffff")] == ["\x00org\x00A\x00"]
