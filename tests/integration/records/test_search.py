"""Searches over the read model, whose rows stand here as the projector writes them."""

from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common import cursors
from emr_model.clinical.identifiers import patient_identifier
from emr_readmodel import hospital
from emr_readmodel.care import condition, emr, note, parked, position
from emr_readmodel.hospital import access_log
from support import care_rows
from support.contract_network import A, B, new_id
from support.fhir_samples import IDENTIFIER_SYSTEM
from support.records_calls import code
from support.records_hospital import Person, RecordsHospital

KNEE = "Knee pain on the left. Rest; see again."


@pytest.fixture(scope="module")
async def rows(a: RecordsHospital) -> list[str]:
    """Three EMRs of A, one erased, one of B."""
    people = [("Garcia", "Ana María", "active", A), ("Garcés", "Bo", "active", A), ("Zhu", "Li", "active", A)]
    people += [("Garcia", "Gone", "erased", A), ("Garcia", "Other", "active", B)]
    emr_ids = sorted(new_id() for _ in people)
    async with a.engine.begin() as connection:
        await connection.execute(sa.insert(position).values(partition=0, block=41))
        await connection.execute(sa.insert(position).values(partition=1, block=40))
        for emr_id, (family, given, life, owner) in zip(emr_ids, people, strict=True):
            more = {"patient_id": new_id(), "life": life, "owner_msp": owner}
            row = care_rows.emr(emr_id, family_name=family, given_names=given, **more)
            await connection.execute(sa.insert(emr).values(row))
        await care_rows.add(connection, condition, [care_rows.coded(emr_ids[2], 1, 0, "38341003")])
        for emr_id, version, month, text in (
            (emr_ids[0], 1, date(2024, 3, 1), KNEE),
            (emr_ids[0], 2, date(2024, 5, 1), "Better."),
            (emr_ids[1], 1, date(2024, 4, 1), "Cough, no knee complaint, left early"),
        ):
            words = sa.func.to_tsvector("simple", text)
            await connection.execute(sa.insert(note).values(**care_rows.note(emr_id, version, month), words=words))
        hmac = patient_identifier(IDENTIFIER_SYSTEM, "MRN-77").hmac(a.wired.identifier_key or b"")
        reserved = {"identifier_hmac": hmac, "patient_id": "p", "emr_id": emr_ids[1]}
        await connection.execute(sa.insert(hospital.patient_identifier).values(reserved))
    return emr_ids


async def search(a: RecordsHospital, person: Person, **body: Any) -> Any:
    return await a.http.post("/emrs/search", json=body, headers=person.headers())


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ({"familyName": "gar"}, [0, 1]),
        ({"familyName": "GARCÉ"}, [1]),
        ({"familyName": "%"}, []),
        ({"givenName": "ana"}, [0]),
        ({"birthDate": "1980-02-03"}, [0, 1, 2]),
        ({"birthDate": "1980-02-03", "sex": "male"}, []),
        ({"conditionCode": "38341003"}, [2]),
        ({"conditionCode": "38341003", "familyName": "gar"}, []),
        ({"conditionCode": "38341003", "birthDate": "1980-02-03"}, [2]),
        ({"medicationCode": "1"}, []),
        ({"conditionCode": "38341003", "medicationCode": "1"}, []),
        ({"identifier": {"system": IDENTIFIER_SYSTEM, "value": " MRN-77 "}}, [1]),
        ({"identifier": {"system": IDENTIFIER_SYSTEM, "value": "MRN-78"}}, []),
        ({"identifier": {"system": IDENTIFIER_SYSTEM, "value": "MRN-77"}, "familyName": "zhu"}, []),
        ({"text": "knee"}, [0, 1]),
        ({"text": "LEFT knee"}, [0, 1]),
        ({"text": '"knee pain"'}, [0]),
        ({"text": "knee -cough"}, [0]),
        ({"text": "cough or better", "familyName": "garci"}, [0]),
        ({"text": "' & | ! ( :* <->"}, []),
        ({"text": "knee", "birthDate": "1980-02-03", "sex": "female"}, [0, 1]),
        ({"text": "knee", "conditionCode": "38341003"}, []),
        ({"text": "better", "visitedFrom": "2024-04-02"}, [0]),
        ({"visitedFrom": "2024-04-01"}, [0, 1]),
        ({"visitedFrom": "2024-04-02", "visitedTo": "2024-04-02"}, [1]),
        ({"visitedTo": "2024-04-30"}, [1, 0]),
        ({"visitedFrom": "2024-05-03"}, []),
        ({"visitedFrom": "2024-04-01", "familyName": "gar"}, [0, 1]),
    ],
)
async def test_a_search_finds_own_emrs_that_meet_every_criterion(
    a: RecordsHospital, physician: Person, rows: list[str], criteria: dict[str, str], found: list[int]
) -> None:
    answer = (await search(a, physician, **criteria)).json()
    assert [hit["emrId"] for hit in answer["emrs"]] == [rows[index] for index in found]
    assert (answer["as_of_block"], answer["next"]) == (40, None)


@pytest.mark.parametrize(
    "criteria",
    [
        {"sex": "female"},
        {"familyName": "g"},
        {"givenName": "b"},
        {"visitedFrom": "2024-01-01"},
        {"text": "knee"},
        {"text": "knee", "sex": "female"},
        {"conditionCode": "38341003"},
    ],
)
async def test_pages_make_up_the_whole(
    a: RecordsHospital, physician: Person, rows: list[str], criteria: dict[str, str]
) -> None:
    whole = [hit["emrId"] for hit in (await search(a, physician, **criteria)).json()["emrs"]]
    paged: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await search(a, physician, **criteria, limit=1, **after)).json()
        paged += [hit["emrId"] for hit in page["emrs"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert paged == whole != []


@pytest.mark.parametrize(
    "cursor",
    [
        "e30=",
        "bnVsbA==",
        "WyJlbXIiXQ==",
        "WyJlbXIiLCAxXQ==",
        "A",
        "WyJmYW1pbHkiLCAiYSIsICJiIl0=",
        cursors.cursor(["emr", "\ud800"]),
        cursors.cursor(["emr", "\0"]),
    ],
)
async def test_a_cursor_that_is_none_of_the_searchs_own_is_refused(
    a: RecordsHospital, physician: Person, cursor: str
) -> None:
    assert code(await search(a, physician, sex="female", after=cursor)) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00"])
async def test_a_cursor_with_a_time_that_never_was_is_refused(a: RecordsHospital, physician: Person, time: str) -> None:
    after = cursors.cursor(["visit", time, "0" * 32])
    assert code(await search(a, physician, visitedFrom="2024-01-01", after=after)) == (400, "MALFORMED_REQUEST")


async def test_the_last_day_of_all_is_a_day(a: RecordsHospital, physician: Person, rows: list[str]) -> None:
    until_today = (await search(a, physician, visitedTo="2026-12-31")).json()["emrs"]
    assert (await search(a, physician, visitedTo="9999-12-31")).json()["emrs"] == until_today != []


async def test_every_hit_that_is_shown_is_in_the_access_log(
    a: RecordsHospital, physician: Person, rows: list[str]
) -> None:
    await search(a, physician, familyName="garc")
    query = sa.select(access_log.c.emr_id, access_log.c.action).where(access_log.c.reader == physician.enrolment_id)
    async with a.engine.connect() as connection:
        logged = {tuple(row) for row in await connection.execute(query)}
    assert logged >= {(rows[1], "search-emrs")}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"limit": 5},
        {"familyName": ""},
        {"CANARY": "CANARY"},
        {"sex": "CANARY"},
        {"visitedFrom": "2024-02-02", "visitedTo": "2024-02-01"},
        {"identifier": {"system": "CANARY", "value": " "}},
    ],
)
async def test_a_search_without_a_known_criterion_is_refused(
    a: RecordsHospital, physician: Person, body: dict[str, Any]
) -> None:
    response = await search(a, physician, **body)
    assert code(response) == (422, "VALIDATION_FAILED")
    assert "CANARY" not in response.text


async def test_a_search_for_what_no_json_holds_is_refused(a: RecordsHospital, physician: Person) -> None:
    response = await search(a, physician, text="\0CANARY")
    assert code(response) == (400, "MALFORMED_REQUEST")
    assert "CANARY" not in response.text


async def test_a_search_as_of_a_block_that_the_ledger_does_not_have_is_refused(
    a: RecordsHospital, physician: Person
) -> None:
    assert code(await search(a, physician, sex="female", minBlock=10**9)) == (400, "BLOCK_UNKNOWN")


@pytest.fixture
async def parked_emrs(a: RecordsHospital, rows: list[str]) -> AsyncIterator[list[str]]:
    """The first EMR of A; B's; one whose creation waits, with an identifier; the erased one."""
    unborn = new_id()
    subjects = [rows[0], rows[4], unborn, rows[3]]
    hmac = patient_identifier(IDENTIFIER_SYSTEM, "MRN-99").hmac(a.wired.identifier_key or b"")
    async with a.engine.begin() as connection:
        for subject in [*subjects, f"org:{A}"]:
            waits = {"subject": subject, "event_id": "care/1/0/0", "code": "CONTENT_UNREADABLE"}
            await connection.execute(sa.insert(parked).values(waits))
        reserved = {"identifier_hmac": hmac, "patient_id": "q", "emr_id": unborn}
        await connection.execute(sa.insert(hospital.patient_identifier).values(reserved))
    yield subjects
    async with a.engine.begin() as connection:
        await connection.execute(sa.delete(parked))
        of_unborn = hospital.patient_identifier.c.emr_id == unborn
        await connection.execute(sa.delete(hospital.patient_identifier).where(of_unborn))


@pytest.mark.parametrize("criteria", [{"familyName": "gar"}, {"familyName": "nobody"}, {"conditionCode": "38341003"}])
async def test_a_search_says_which_parked_emrs_it_may_lack_and_which_hits_are_as_they_were(
    a: RecordsHospital, physician: Person, rows: list[str], parked_emrs: list[str], criteria: dict[str, str]
) -> None:
    answer = (await search(a, physician, **criteria, limit=1)).json()
    assert (answer["isComplete"], answer["parkedEmrs"]) == (False, 2)
    assert answer["parkedEmrIds"] == sorted([parked_emrs[0], parked_emrs[2]])
    assert [hit["isParked"] for hit in answer["emrs"]] == [hit["emrId"] == rows[0] for hit in answer["emrs"]]


@pytest.mark.parametrize(("value", "found", "waits"), [("MRN-77", [1], None), ("MRN-78", [], None), ("MRN-99", [], 2)])
async def test_a_search_by_identifier_lacks_something_only_if_that_very_emr_is_parked(
    a: RecordsHospital,
    physician: Person,
    rows: list[str],
    parked_emrs: list[str],
    value: str,
    found: list[int],
    waits: int | None,
) -> None:
    answer = (await search(a, physician, identifier={"system": IDENTIFIER_SYSTEM, "value": value})).json()
    assert [hit["emrId"] for hit in answer["emrs"]] == [rows[index] for index in found]
    assert answer["isComplete"] is (waits is None)
    assert answer["parkedEmrIds"] == ([] if waits is None else [parked_emrs[waits]])


async def test_a_search_without_parked_emrs_is_complete(a: RecordsHospital, physician: Person, rows: list[str]) -> None:
    answer = (await search(a, physician, familyName="gar")).json()
    assert (answer["isComplete"], answer["parkedEmrs"], answer["parkedEmrIds"]) == (True, 0, [])
    assert {hit["isParked"] for hit in answer["emrs"]} == {False}
