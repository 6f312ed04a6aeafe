"""How records wait between Kafka and the projector, and what of them is acknowledged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from emr_common.emr_keys import KeptKeys
from emr_common.sealing import ContentKey, WrappingKey, new_wrapping_keyset
from emr_indexer.projector.fetches import MOST_WAITING, MOST_WAITING_BYTES, Incoming
from emr_indexer.projector.records import Record
from emr_indexer.projector.worker import first_left


def record(partition: int, offset: int, size: int = 10) -> Record:
    return Record(partition, offset, b"x" * size)


async def test_what_waits_is_taken_together_up_to_so_many_records_and_bytes() -> None:
    incoming = Incoming()
    incoming.put(record(0, offset) for offset in range(5))
    assert [each.offset for each in await incoming.take(3, 1000)] == [0, 1, 2]
    incoming.put([record(1, 0)])
    assert [(each.partition, each.offset) for each in await incoming.take(10, 15)] == [(0, 3), (0, 4)]
    assert [each.partition for each in await incoming.take(10, 15)] == [1]


async def test_what_waits_is_looked_at_once_and_taken_all_the_same() -> None:
    incoming = Incoming()
    incoming.put(record(0, offset) for offset in range(4))
    assert [(await incoming.look()).offset for _ in range(2)] == [0, 1]
    assert [each.offset for each in await incoming.take(3, 1000)] == [0, 1, 2]
    incoming.put([record(1, 0)])
    assert [(await incoming.look()).offset for _ in range(2)] == [3, 0]
    looking = asyncio.create_task(incoming.look())
    await asyncio.sleep(0)
    assert not looking.done()
    incoming.put([record(1, 1)])
    assert await looking is (await incoming.take(10, 1000))[-1]


async def test_nothing_is_taken_until_something_comes() -> None:
    incoming = Incoming()
    taking = asyncio.create_task(incoming.take(1, 1))
    await asyncio.sleep(0)
    assert not taking.done()
    incoming.put([record(0, 0)])
    assert [each.offset for each in await taking] == [0]


@pytest.mark.parametrize(("records", "size"), [(MOST_WAITING, 10), (2, MOST_WAITING_BYTES // 2)])
async def test_there_is_room_again_once_some_were_taken(records: int, size: int) -> None:
    incoming = Incoming()
    incoming.put(record(0, offset, size) for offset in range(records))
    waiting = asyncio.create_task(incoming.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await incoming.take(1, 1)
    await waiting


async def test_records_of_partitions_that_went_away_are_dropped() -> None:
    incoming = Incoming()
    incoming.put([record(0, 0), record(1, 0), record(0, 1)])
    incoming.drop({0})
    assert [each.partition for each in await incoming.take(10, 1000)] == [1]
    taking = asyncio.create_task(incoming.take(1, 1))
    await asyncio.sleep(0)
    taking.cancel()
    assert not taking.done()


RECORDS = [record(0, 7), record(1, 3), record(0, 8), record(1, 5), record(2, 1)]


@pytest.mark.parametrize(
    ("done", "left"),
    [
        (RECORDS, {0: 9, 1: 6, 2: 2}),
        ([], {}),
        ([RECORDS[0], RECORDS[1], RECORDS[3]], {0: 8, 1: 6}),
        ([RECORDS[2], RECORDS[4]], {2: 2}),  # nothing of partition 0 before what is not done
    ],
)
def test_a_partition_is_acknowledged_up_to_the_first_record_that_is_not_done(
    done: list[Record], left: dict[int, int]
) -> None:
    assert first_left(RECORDS, done) == left


def test_an_emrs_key_is_kept_as_long_as_its_wrapped_form_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "keyset").write_text(new_wrapping_keyset())
    wrapping = WrappingKey.from_file(tmp_path / "keyset")
    key, other = ContentKey.generate(), ContentKey.generate()
    wrapped, again = wrapping.wrap(key, "e1"), wrapping.wrap(other, "e1")
    keys = KeptKeys(wrapping, most=2)
    known = keys.unwrapped("e1", wrapped)
    assert keys.unwrapped("e1", wrapped) is known
    assert keys.unwrapped("e1", again).open(other.seal(b"text", b""), b"") == b"text"
    keys.forget(["e1", "e2"])
    assert len(keys) == 0
    for emr_id in ("e1", "e2", "e3"):
        keys.unwrapped(emr_id, wrapping.wrap(key, emr_id))
    assert len(keys) == 2
