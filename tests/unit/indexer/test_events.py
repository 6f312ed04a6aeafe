from __future__ import annotations

from collections import Counter

import pytest
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import (
    PARTITIONS,
    BlockMark,
    DeadLetter,
    LedgerEvent,
    Message,
    decode,
    encode,
    partition_of,
)
from emr_model.ledger.values import Note
from support.ledger_writer import LedgerWriter, visit_note


def _events() -> tuple[LedgerEvent, ...]:
    writer = LedgerWriter()
    patient, creation = writer.create_emr()
    block = writer.cut(writer.register("HospitalA"), creation, writer.add_note(patient, visit_note()))
    return BlockReader("care", "emr", "HospitalA").read(block).events


def test_every_message_reads_as_it_was_written() -> None:
    writer = LedgerWriter()
    mark = BlockReader("care", "emr", "HospitalA").read(writer.genesis()).mark
    letter = DeadLetter("care", 1, 2, 3, "t", mark.at, "note", None, "CODE")
    messages: list[Message] = [*_events(), mark, letter]
    for message in messages:
        again = decode(encode(message))
        assert again == message
        assert type(again) is type(message)


def test_an_event_is_named_by_its_place_on_the_ledger() -> None:
    event = next(event for event in _events() if isinstance(event.fact, Note))
    assert event.id == f"care/0/2/{event.write}"
    assert event.position == (0, 2, event.write)
    assert event.emr_id == event.subject == event.attributes[0]


def test_a_hospitals_profile_is_about_no_emr() -> None:
    (event,) = (event for event in _events() if event.object_type == "org")
    assert event.emr_id is None
    assert event.subject == "org:HospitalA"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"event":{}}',
        b'{"other":{}}',
        b'{"event":1,"mark":2}',
        b"\xff",
        b'{"mark":{"block":1}}',
    ],
)
def test_what_the_relay_does_not_write_is_refused(value: bytes) -> None:
    with pytest.raises(ValueMalformed):
        decode(value)


def test_all_about_one_emr_is_in_one_partition_and_emrs_are_spread_over_all() -> None:
    assert len({partition_of(event.subject) for event in _events() if event.emr_id}) == 1
    spread = Counter(partition_of(f"{number:032x}") for number in range(6000))
    assert set(spread) == set(range(PARTITIONS))
    assert max(spread.values()) < 1.2 * min(spread.values())


def test_a_mark_says_what_a_relay_needs_to_resume() -> None:
    writer = LedgerWriter()
    block = writer.genesis()
    mark = BlockReader("care", "emr", "HospitalA").read(block).mark
    assert isinstance(mark, BlockMark)
    assert (mark.block, mark.header_hash) == (0, block.header_hash.hex())
