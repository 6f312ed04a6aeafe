from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_indexer.projector import store
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.refusals import Refusal
from emr_model.ledger.events import PARTITIONS, partition_of
from emr_model.ledger.values import Event, Life
from emr_readmodel import care, hospital
from hlf.blocks import BlockTransaction
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import LedgerWriter, visit_note
from support.read_model import Hospital, query, row, rows


@pytest.fixture
async def hospital_a(database: AsyncEngine, wrapping: WrappingKey) -> Hospital:
    await store.prepare(database)
    return Hospital(database, wrapping)


async def test_a_patient_and_a_visit_become_rows(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation)
    hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
    await hospital_a.project()

    emr = await row(hospital_a.database, care.emr)
    assert (emr["family_name"], emr["given_names"], emr["sex"]) == ("Lovelace", "Augusta Ada", "female")
    assert (emr["birth_date"], emr["version"], emr["visits"], emr["life"]) == (date(1985, 12, 10), 1, 1, "active")
    assert emr["demographics"]["resourceType"] == "Patient"
    note = await row(hospital_a.database, care.note)
    assert (note["kind"], note["is_visit"], note["encounter_class"]) == ("encounter", True, "AMB")
    assert (note["encounter_type"], note["encounter_type_display"]) == ("185349003", "Check-up")
    condition = await row(hospital_a.database, care.condition)
    assert (condition["code"], condition["display"]) == ("38341003", "Hypertension")
    medication = await row(hospital_a.database, care.medication)
    assert (medication["code"], medication["display"]) == (None, "Something by mouth")


async def test_a_visits_month_is_that_of_the_place_where_it_was(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note("2025-11-30T23:30:00-05:00")))
    await hospital_a.project()
    note = await row(hospital_a.database, care.note)
    assert note["month"] == date(2025, 11, 1)
    assert note["period_start"].isoformat() == "2025-12-01T04:30:00+00:00"


async def test_decimals_keep_their_digits(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note()))
    await hospital_a.project()
    ((dose,),) = await query(
        hospital_a.database,
        "select jsonb_path_query(content, 'strict $.**.doseQuantity.value')::text from care.note",
    )
    assert dose == "1.0"


async def test_as_of_block_is_the_least_over_the_partitions(hospital_a: Hospital) -> None:
    hospital_a.writer.genesis()
    hospital_a.writer.genesis()
    all_records = hospital_a.records()
    await hospital_a.projector.project([each for each in all_records if each.partition != 3])
    assert await query(hospital_a.database, "select block from analytics.as_of") == [(-1,)]
    await hospital_a.projector.project([each for each in all_records if each.partition == 3])
    assert await query(hospital_a.database, "select block from analytics.as_of") == [(1,)]


async def test_repetitions_change_nothing(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation)
    for _ in range(5):
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
    for end in range(0, len(hospital_a.records()), 7):
        await hospital_a.projector.project(hospital_a.records()[:end])
    await hospital_a.project()
    before = [await rows(hospital_a.database, table) for table in care.position.metadata.sorted_tables]
    acknowledged = await hospital_a.new_projector().project(hospital_a.records())
    assert len(acknowledged) == len(hospital_a.records())
    assert before == [await rows(hospital_a.database, table) for table in care.position.metadata.sorted_tables]
    assert [note["version"] for note in await rows(hospital_a.database, care.note)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_the_size_of_batches_does_not_matter(hospital_a: Hospital, size: int) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note()))
    hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note(), is_visit=False))
    all_records = hospital_a.records()
    for start in range(0, len(all_records), size):
        await hospital_a.projector.project(all_records[start : start + size])
    notes = await rows(hospital_a.database, care.note)
    assert [(note["version"], note["is_visit"]) for note in notes] == [(1, True), (2, False)]


async def test_content_that_did_not_come_leaves_a_placeholder(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note(), held=False))
    await hospital_a.project()
    note = await row(hospital_a.database, care.note)
    assert (note["content"], note["kind"], note["month"]) == (None, None, None)
    assert len(note["sha256"]) == 64
    assert await rows(hospital_a.database, care.condition) == []


async def test_content_whose_key_is_gone_leaves_a_placeholder(hospital_a: Hospital) -> None:
    """The key is destroyed at the erasure, which the projector may hear of later."""
    patient, creation = await hospital_a.admit()
    async with hospital_a.database.begin() as connection:
        await connection.execute(sa.delete(hospital.emr_key))
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note()))
    await hospital_a.project()
    assert (await row(hospital_a.database, care.emr))["demographics"] is None
    assert (await row(hospital_a.database, care.note))["content"] is None


async def test_content_that_was_opened_ahead_is_not_used_once_its_key_is_gone(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation, hospital_a.writer.add_note(patient, visit_note()))
    await hospital_a.project()
    hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
    waiting = hospital_a.records()
    for each in waiting:
        hospital_a.projector.look_ahead(each)
    async with hospital_a.database.begin() as connection:
        await connection.execute(sa.delete(hospital.emr_key))
    await hospital_a.projector.project(waiting)
    contents = [note["content"] is not None for note in await rows(hospital_a.database, care.note)]
    assert contents == [True, False]


async def test_another_hospitals_emr_is_known_without_content(database: AsyncEngine, wrapping: WrappingKey) -> None:
    await store.prepare(database)
    hospital_b = Hospital(database, wrapping, "HospitalB")
    patient, creation = hospital_b.writer.create_emr("HospitalA")
    hospital_b.writer.cut(creation, hospital_b.writer.add_note(patient, visit_note()))
    await hospital_b.project()
    emr = await row(database, care.emr)
    assert (emr["owner_msp"], emr["version"], emr["demographics"]) == ("HospitalA", 1, None)
    assert await rows(database, care.note) == []


@pytest.mark.parametrize(("msp_id", "expected"), [("HospitalA", 1), ("HospitalB", 1), ("HospitalC", 0)])
async def test_a_sharing_becomes_a_row_for_owner_and_recipient_and_nobody_else(
    database: AsyncEngine, wrapping: WrappingKey, msp_id: str, expected: int
) -> None:
    await store.prepare(database)
    reader = Hospital(database, wrapping, msp_id)
    reader.writer.cut(*_shared(reader.writer))
    await reader.project()
    assert len(await rows(database, care.sharing)) == expected
    assert len(await rows(database, care.disclosure)) == expected


def _shared(writer: LedgerWriter) -> Sequence[BlockTransaction]:
    patient, creation = writer.create_emr("HospitalA")
    access, request = writer.request(patient, "HospitalB")
    access, approvals = writer.approve(patient, "HospitalB", access, 2)
    _, sharing = writer.share(patient, "HospitalB", access, 2, b"snapshot")
    return creation, request, *approvals, sharing, writer.disclose(patient, "HospitalB", 1, 2)


async def test_a_sharings_row_says_how_far_it_has_come(hospital_a: Hospital) -> None:
    hospital_a.writer.cut(*_shared(hospital_a.writer))
    await hospital_a.project()
    sharing = await row(hospital_a.database, care.sharing)
    assert (sharing["request_purpose"], sharing["owner_approved_version"], sharing["snapshot_version"]) == (
        "TREAT",
        2,
        2,
    )
    assert sharing["access"]["event"] == "snapshot-shared"
    assert await query(hospital_a.database, "select state, sharings from analytics.sharings") == [("shared", 1)]
    assert await query(hospital_a.database, "select purpose, disclosures, emrs from analytics.disclosures") == [
        ("TREAT", 1, 1)
    ]


async def test_an_ending_ends_the_sharings_up_to_its_number(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    _, first = writer.request(patient, "HospitalB", 1)
    _, second = writer.request(patient, "HospitalB", 2)
    writer.cut(creation, first, writer.end(patient, "HospitalB", 1), second)
    await hospital_a.project()
    ended = [each["ended_why"] for each in await rows(hospital_a.database, care.sharing)]
    assert ended == ["removed-by-patient", None]
    writer.cut(writer.end(patient, "HospitalB", 2))
    await hospital_a.project()
    first_row, second_row = await rows(hospital_a.database, care.sharing)
    assert first_row["ended_at"] < second_row["ended_at"]
    assert second_row["ending"]["number"] == 2


async def test_an_ending_that_is_written_back_revives_nothing_and_is_raised(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    _, request = writer.request(patient, "HospitalB", 1)
    writer.cut(creation, request, writer.end(patient, "HospitalB", 1), writer.end(patient, "HospitalB", 0))
    await hospital_a.project()
    assert (await row(hospital_a.database, care.sharing))["ended_at"] is not None
    assert (await row(hospital_a.database, care.ending))["number"] == 1
    letter = await row(hospital_a.database, care.dead_letter)
    assert (letter["code"], letter["stage"], letter["stops_partition"]) == (Refusal.END_DECREASED, "projector", False)


async def test_an_erasure_takes_the_content_and_what_derives_from_it(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    writer.cut(creation, writer.add_note(patient, visit_note()))
    await hospital_a.project()
    says = "select count(*) from care.note where words @@ websearch_to_tsquery('simple', '\"something by\" check-up')"
    assert await query(hospital_a.database, says) == [(1,)]
    writer.cut(
        writer.set_life(patient, Life.ERASURE_REQUESTED, Event.ERASURE_REQUESTED),
        writer.add_note(patient, visit_note()),
        writer.set_life(patient, Life.ERASED, Event.EMR_ERASED),
    )
    await hospital_a.project()
    emr = await row(hospital_a.database, care.emr)
    assert (emr["life"], emr["demographics"], emr["family_name"], emr["birth_date"]) == ("erased", None, None, None)
    assert [(note["content"], note["words"]) for note in await rows(hospital_a.database, care.note)] == [
        (None, None)
    ] * 2
    for table in (care.condition, care.medication, care.pseudonym):
        assert await rows(hospital_a.database, table) == []
    assert await query(hospital_a.database, "select * from analytics.visit") == []


async def test_an_erased_emr_does_not_come_back_to_life(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    writer.cut(
        creation,
        writer.set_life(patient, Life.ERASED, Event.EMR_ERASED),
        writer.set_life(patient, Life.ACTIVE, Event.ERASURE_CANCELLED),
        writer.add_note(patient, visit_note()),
    )
    await hospital_a.project()
    assert (await row(hospital_a.database, care.emr))["life"] == "erased"
    assert (await row(hospital_a.database, care.note))["content"] is None
    assert (await row(hospital_a.database, care.dead_letter))["code"] == Refusal.LIFE_DECREASED


async def test_a_write_that_the_owner_did_not_endorse_is_refused_and_raised(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    writer.cut(
        creation, replace(writer.add_note(patient, visit_note()), endorsers=(writer.identity("HospitalB", "peer"),))
    )
    await hospital_a.project()
    assert (await row(hospital_a.database, care.emr))["version"] == 0
    assert await rows(hospital_a.database, care.note) == []
    letters = await rows(hospital_a.database, care.dead_letter)
    assert {letter["code"] for letter in letters} == {Refusal.OWNER_DID_NOT_ENDORSE}
    assert {letter["emr_id"] for letter in letters} == {patient.emr_id}


async def test_an_emr_does_not_change_hands(hospital_a: Hospital) -> None:
    writer = hospital_a.writer
    patient, creation = await hospital_a.admit()
    patient.value = replace(patient.value, owner="HospitalB")
    writer.cut(creation, writer.add_note(patient, visit_note()))
    await hospital_a.project()
    assert (await row(hospital_a.database, care.emr))["owner_msp"] == "HospitalA"
    assert (await rows(hospital_a.database, care.dead_letter))[0]["code"] == Refusal.OWNER_CHANGED


async def test_profiles_of_hospitals_become_rows(hospital_a: Hospital) -> None:
    hospital_a.writer.cut(hospital_a.writer.register("HospitalA"), hospital_a.writer.register("HospitalB"))
    await hospital_a.project()
    found = await rows(hospital_a.database, care.organization)
    assert [(each["msp_id"], each["name"]) for each in found] == [
        ("HospitalA", "Hospital A"),
        ("HospitalB", "Hospital B"),
    ]
    assert found[0]["sealing_keys"] == [{"id": "1", "keyset": "AA=="}]


async def test_a_profile_that_another_hospital_wrote_is_refused(hospital_a: Hospital) -> None:
    forged = replace(
        hospital_a.writer.register("HospitalA"), endorsers=(hospital_a.writer.identity("HospitalB", "peer"),)
    )
    hospital_a.writer.cut(forged)
    await hospital_a.project()
    assert await rows(hospital_a.database, care.organization) == []
    assert (await row(hospital_a.database, care.dead_letter))["code"] == Refusal.OWNER_DID_NOT_ENDORSE


async def test_analysts_see_neither_ids_nor_names_nor_dates(hospital_a: Hospital) -> None:
    patient, creation = await hospital_a.admit()
    hospital_a.writer.cut(creation)
    for start in ("2024-01-05T10:00:00Z", "2024-07-01T10:00:00Z", "2025-12-09T10:00:00Z"):
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note(start)))
    await hospital_a.project()
    visits = await query(
        hospital_a.database,
        "select pseudonym, year, month::text, age_band, sex, encounter_class from analytics.visit order by month",
    )
    assert [visit[1:] for visit in visits] == [
        (2024, "2024-01-01", "30-39", "female", "AMB"),
        (2024, "2024-07-01", "30-39", "female", "AMB"),
        (2025, "2025-12-01", "30-39", "female", "AMB"),
    ]
    pseudonyms = [visit[0] for visit in visits]
    assert pseudonyms[0] == pseudonyms[1] != pseudonyms[2]
    everything = json.dumps(
        [
            await query(hospital_a.database, f"select * from analytics.{view}")
            for view in ("visit", "condition", "medication", "visits_by_year_and_type")
        ],
        default=str,
    )
    for hidden in (patient.emr_id, patient.patient_id, "Lovelace", "1985", "-05", "-09"):
        assert hidden not in everything
    by_year = await query(
        hospital_a.database, "select year, visits, patients from analytics.visits_by_year_and_type order by year"
    )
    assert by_year == [(2024, 2, 1), (2025, 1, 1)]


def test_a_pseudonym_needs_a_long_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms(b"short")


async def test_every_partition_has_a_position_from_the_start(hospital_a: Hospital) -> None:
    found = await rows(hospital_a.database, care.position)
    assert [(each["partition"], each["block"]) for each in found] == [(number, -1) for number in range(PARTITIONS)]
    assert partition_of("x") in range(PARTITIONS)
