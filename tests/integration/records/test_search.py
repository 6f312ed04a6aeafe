"""Searches over the read model, whose rows stand here as the projector writes them."""

from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa
from emr_readmodel.care import condition, emr, position
from emr_readmodel.hospital import access_log
from support.contract_network import A, B, new_id
from support.records_calls import code
from support.records_hospital import Person, RecordsHospital


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
            await connection.execute(sa.insert(emr).values(_row(emr_id, family, given, life, owner)))
        coded = {
            "emr_id": emr_ids[2],
            "version": 1,
            "position": 0,
            "system": "http://snomed.info/sct",
            "code": "38341003",
        }
        await connection.execute(sa.insert(condition).values(coded))
    return emr_ids


def _row(emr_id: str, family: str, given: str, life: str, owner: str) -> dict[str, Any]:
    return {
        "emr_id": emr_id,
        "owner_msp": owner,
        "patient_id": new_id(),
        "patient_key": "0" * 64,
        "version": 1,
        "visits": 1,
        "life": life,
        "demographics_revision": 1,
        "demographics_commitment": "0" * 64,
        "demographics_sha256": "0" * 64,
        "family_name": family,
        "given_names": given,
        "birth_date": date(1980, 2, 3),
        "sex": "female",
        "created_at": sa.func.now(),
        "transaction_id": "0" * 64,
        "block": 3,
    }


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
        ({"medicationCode": "1"}, []),
    ],
)
async def test_a_search_finds_own_emrs_that_meet_every_criterion(
    a: RecordsHospital, physician: Person, rows: list[str], criteria: dict[str, str], found: list[int]
) -> None:
    answer = (await search(a, physician, **criteria)).json()
    assert [hit["emrId"] for hit in answer["emrs"]] == [rows[index] for index in found]
    assert (answer["as_of_block"], answer["next"]) == (40, None)


async def test_a_search_is_answered_page_by_page(a: RecordsHospital, physician: Person, rows: list[str]) -> None:
    first = (await search(a, physician, sex="female", limit=2)).json()
    second = (await search(a, physician, sex="female", limit=2, after=first["next"])).json()
    assert [hit["emrId"] for hit in first["emrs"] + second["emrs"]] == rows[:3]
    assert second["next"] is None


async def test_every_hit_that_is_shown_is_in_the_access_log(
    a: RecordsHospital, physician: Person, rows: list[str]
) -> None:
    await search(a, physician, familyName="garc")
    query = sa.select(access_log.c.emr_id, access_log.c.action).where(access_log.c.reader == physician.enrolment_id)
    async with a.engine.connect() as connection:
        logged = {tuple(row) for row in await connection.execute(query)}
    assert logged == {(rows[0], "search-emrs"), (rows[1], "search-emrs")}


@pytest.mark.parametrize("body", [{}, {"limit": 5}, {"familyName": ""}, {"CANARY": "CANARY"}, {"sex": "CANARY"}])
async def test_a_search_without_a_known_criterion_is_refused(
    a: RecordsHospital, physician: Person, body: dict[str, Any]
) -> None:
    response = await search(a, physician, **body)
    assert code(response) == (422, "VALIDATION_FAILED")
    assert "CANARY" not in response.text


async def test_a_search_as_of_a_block_that_the_ledger_does_not_have_is_refused(
    a: RecordsHospital, physician: Person
) -> None:
    assert code(await search(a, physician, sex="female", minBlock=10**9)) == (400, "BLOCK_UNKNOWN")
