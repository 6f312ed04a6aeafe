from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from emr_indexer.refusals import Refusal
from emr_indexer.relay.facts import BlockFacts, BlockReader
from emr_model.ledger import keys
from emr_model.ledger.values import Event as Action
from emr_model.ledger.values import Life
from hlf.blocks import BlockTransaction, CollectionWrite, Write, composite_key
from support.ledger_writer import NAMESPACE, LedgerWriter, visit_note


@pytest.fixture
def writer() -> LedgerWriter:
    return LedgerWriter()


def read(writer: LedgerWriter, *transactions: BlockTransaction, msp_id: str = "HospitalA") -> BlockFacts:
    return BlockReader("care", NAMESPACE, msp_id).read(writer.cut(*transactions))


def codes(facts: BlockFacts) -> list[str]:
    return [letter.code for letter in facts.dead_letters]


def test_facts_become_events_and_indexes_do_not(writer: LedgerWriter) -> None:
    patient, creation = writer.create_emr()
    facts = read(writer, creation, writer.add_note(patient, visit_note()))
    assert [event.object_type for event in facts.events] == ["emr", "life", "emr", "note"]
    assert codes(facts) == []


def test_an_event_carries_the_owners_sealed_bytes_as_they_stand(writer: LedgerWriter) -> None:
    patient, creation = writer.create_emr()
    note = writer.add_note(patient, visit_note())
    event = read(writer, creation, note).events[-1]
    assert event.sealed_bytes == note.private_writes[0].value
    assert event.endorsers == ("HospitalA", "HospitalB")
    assert (event.creator_msp, event.creator_id) == ("HospitalA", "user")


def test_an_invalid_transaction_says_nothing(writer: LedgerWriter) -> None:
    _, creation = writer.create_emr()
    facts = read(writer, replace(creation, validation_code=11))
    assert (facts.events, facts.dead_letters) == ((), ())
    assert facts.mark.transactions == 1


def test_another_hospitals_content_is_never_carried(writer: LedgerWriter) -> None:
    writer.reader = "HospitalB"
    patient, creation = writer.create_emr("HospitalA")
    facts = read(writer, creation, writer.add_note(patient, visit_note()), msp_id="HospitalB")
    assert [event.sealed for event in facts.events] == [None] * 4
    assert facts.missing_contents == 0
    assert codes(facts) == []


def test_a_snapshot_is_never_carried_not_even_by_its_recipient(writer: LedgerWriter) -> None:
    writer.reader = "HospitalB"
    patient, creation = writer.create_emr("HospitalA")
    access, request = writer.request(patient, "HospitalB")
    access, approvals = writer.approve(patient, "HospitalB", access, 1)
    _, sharing = writer.share(patient, "HospitalB", access, 1, b"sealed snapshot")
    facts = read(writer, creation, request, *approvals, sharing, msp_id="HospitalB")
    assert sharing.private_writes[0].value == b"sealed snapshot"
    assert all(event.sealed is None for event in facts.events)
    assert codes(facts) == []


def test_content_that_the_peer_does_not_hold_yet_is_counted(writer: LedgerWriter) -> None:
    patient, creation = writer.create_emr()
    facts = read(writer, creation, writer.add_note(patient, visit_note(), held=False))
    assert facts.events[-1].sealed is None
    assert facts.missing_contents == 1
    assert codes(facts) == []


def test_a_fact_about_content_that_nobody_wrote_goes_without_it_and_is_raised(writer: LedgerWriter) -> None:
    patient, creation = writer.create_emr()
    note = replace(writer.add_note(patient, visit_note()), collection_writes=(), private_writes=())
    facts = read(writer, creation, note)
    assert facts.events[-1].sealed is None
    assert codes(facts) == [Refusal.CONTENT_MISSING]
    assert facts.dead_letters[0].id == facts.events[-1].id


def test_other_bytes_than_the_fact_tells_of_are_not_carried_and_raised(writer: LedgerWriter) -> None:
    patient, creation = writer.create_emr()
    note = writer.add_note(patient, visit_note())
    other = hashlib.sha256(b"other").digest()
    swapped = replace(note, collection_writes=(replace(note.collection_writes[0], value_hash=other),))
    facts = read(writer, creation, swapped)
    assert facts.events[-1].sealed is None
    assert codes(facts) == [Refusal.CONTENT_MISMATCH, Refusal.PRIVATE_WRITE_UNPAIRED]


def test_a_private_write_without_its_fact_is_raised(writer: LedgerWriter) -> None:
    """One organization alone can make such a transaction valid."""
    hidden = [("HospitalB", keys.note("f" * 32, 1), b"planted")]
    facts = read(writer, writer.transaction([], private=hidden, endorsers=("HospitalB",)))
    assert facts.events == ()
    assert codes(facts) == [Refusal.PRIVATE_WRITE_UNPAIRED]
    assert facts.dead_letters[0].emr_id is None


def test_demographics_in_another_collection_than_the_owners_are_not_theirs(writer: LedgerWriter) -> None:
    _, creation = writer.create_emr()
    (hidden,) = creation.collection_writes
    elsewhere = replace(hidden, collection=keys.implicit_collection("HospitalB"))
    facts = read(writer, replace(creation, collection_writes=(elsewhere,), private_writes=()))
    assert codes(facts) == [Refusal.CONTENT_MISSING, Refusal.PRIVATE_WRITE_UNPAIRED]


def test_a_purge_needs_no_fact(writer: LedgerWriter) -> None:
    purge = CollectionWrite(NAMESPACE, keys.implicit_collection("HospitalB"), b"k", b"", True, True)
    facts = read(writer, replace(writer.transaction([], endorsers=("HospitalB",)), collection_writes=(purge,)))
    assert codes(facts) == []


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        composite_key("unknown", ["x"]),
        composite_key("note", ["x", "1"]),
        composite_key("emr", []),
        composite_key("life", [""]),
    ],
)
def test_a_key_that_the_contract_does_not_make_is_raised(writer: LedgerWriter, key: str) -> None:
    transaction = replace(writer.transaction([]), writes=(Write(NAMESPACE, key, b"{}", False),))
    facts = read(writer, transaction)
    assert facts.events == ()
    assert codes(facts) == [Refusal.KEY_UNKNOWN]


def test_a_deleted_fact_is_raised(writer: LedgerWriter) -> None:
    deleted = Write(NAMESPACE, composite_key("life", ["f" * 32]), b"", True)
    facts = read(writer, replace(writer.transaction([]), writes=(deleted,)))
    assert facts.events == ()
    assert codes(facts) == [Refusal.FACT_DELETED]


def test_what_other_chaincodes_write_is_no_fact(writer: LedgerWriter) -> None:
    foreign = Write("other", composite_key("life", ["f" * 32]), b"{}", False)
    facts = read(writer, replace(writer.transaction([]), writes=(foreign,)))
    assert (facts.events, facts.dead_letters) == ((), ())


def test_a_malformed_value_goes_on_so_that_the_projector_stops_at_it(writer: LedgerWriter) -> None:
    facts = read(writer, writer.transaction([(keys.emr("f" * 32), b"{}")]))
    assert [event.value for event in facts.events] == ["{}"]


def test_events_number_the_writes_as_the_transaction_does(writer: LedgerWriter) -> None:
    patient, creation = writer.create_emr()
    facts = read(writer, creation, writer.set_life(patient, Life.ERASURE_REQUESTED, Action.ERASURE_REQUESTED))
    for event in facts.events:
        write = (creation, writer.blocks[-1].transactions[1])[event.tx].writes[event.write]
        assert composite_key(*event.key) == write.key
