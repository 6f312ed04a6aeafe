"""Whole bundles become notes in the background, also when the service ends in the middle."""

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.background import PIECES_AT_ONCE
from emr_common.ledger import Committed
from emr_common.problems import OutcomePending, Problem
from emr_model.clinical.canonical import parse
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_readmodel.hospital import emr_key, import_job, wallet
from emr_records import imports
from emr_records.store import ImportJob, ImportStore
from support.fhir_samples import PATIENT_URL, bundle, encounter, observation, patient, synthea_files
from support.records_calls import code, get, note_bundle, post_import, post_note
from support.records_hospital import Person, RecordsHospital

HISTORY = bundle(
    {
        "urn:x:e2": encounter("2024-02-01T00:00:00Z"),
        "urn:x:e1": encounter("2023-02-01T00:00:00Z"),
        "urn:x:o1": observation("urn:x:e1"),
        "urn:x:a": {
            "resourceType": "AllergyIntolerance",
            "patient": {"reference": PATIENT_URL},
            "code": {"text": "fish"},
        },
        "urn:x:c": {"resourceType": "Claim"},
    }
)


async def finished(hospital: RecordsHospital, person: Person, import_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            answer: dict[str, Any] = (await get(hospital, person, f"/imports/{import_id}")).json()
            if answer["state"] in ("done", "failed"):
                return answer
            await asyncio.sleep(0.05)


async def kept_bundle(hospital: RecordsHospital, import_id: str) -> bytes | None:
    async with hospital.engine.connect() as connection:
        query = sa.select(import_job.c.sealed_bundle).where(import_job.c.import_id == import_id)
        kept: bytes | None = await connection.scalar(query)
        return kept


async def test_an_import_becomes_notes_in_the_order_of_the_visits(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    accepted = await post_import(a, physician, patient.emr_id, HISTORY)
    import_id = accepted.json()["importId"]
    assert (accepted.status_code, accepted.headers["location"]) == (202, f"/v1/imports/{import_id}")
    assert (accepted.json()["notes"], accepted.json()["refused"]) == (3, 0)
    answer = await finished(a, physician, import_id)
    assert [note["version"] for note in answer["notes"]] == [1, 2, 3]
    assert all(note["block"] and note["transactionId"] for note in answer["notes"])
    assert answer["remarks"] == [{"resource": "Claim (1): financial", "code": "IGNORED"}]
    notes = (await get(a, physician, f"/emrs/{patient.emr_id}/notes")).json()["notes"]
    assert [note["kind"] for note in notes] == ["encounter", "encounter", "background"]
    starts = [note["content"]["entry"][0]["resource"]["period"]["start"] for note in notes[:2]]
    assert starts == sorted(starts)
    assert (await get(a, physician, f"/emrs/{patient.emr_id}")).json()["visits"] == 2
    assert await kept_bundle(a, import_id) is None


async def test_an_import_repeated_answers_the_same_and_adds_nothing(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    first = await post_import(a, physician, patient.emr_id, HISTORY, key=f"i-{patient.emr_id}")
    await finished(a, physician, first.json()["importId"])
    repeated = await post_import(a, physician, patient.emr_id, HISTORY, key=f"i-{patient.emr_id}")
    assert (repeated.status_code, repeated.json()) == (202, first.json())
    assert repeated.headers["location"] == first.headers["location"]
    another = await post_import(a, physician, patient.emr_id, HISTORY)
    answer = await finished(a, physician, another.json()["importId"])
    assert [note["version"] for note in answer["notes"]] == [1, 2, 3]
    assert (await get(a, physician, f"/emrs/{patient.emr_id}")).json()["version"] == 3


async def test_a_refused_note_is_named_and_the_others_go_in(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    resources = {entry["fullUrl"]: entry["resource"] for entry in HISTORY["entry"]}
    bad = bundle({**resources, "urn:x:bad": observation("urn:x:e2", "CANARY")})
    accepted = await post_import(a, physician, patient.emr_id, bad)
    answer = await finished(a, physician, accepted.json()["importId"])
    assert (accepted.json()["notes"], accepted.json()["refused"]) == (2, 1)
    assert [note["version"] for note in answer["notes"]] == [1, 2]
    assert answer["remarks"][0] == {
        "resource": "Observation at entry 5: valueQuantity.value: value-error",
        "code": "BUNDLE_INVALID",
    }
    assert "CANARY" not in json.dumps(answer)


async def test_a_note_with_an_id_that_has_other_content_is_a_result_and_the_others_go_in(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    await post_note(a, physician, patient.emr_id, bundle({"urn:x:e1": encounter("2023-02-01T00:00:00Z")}))
    accepted = await post_import(a, physician, patient.emr_id, HISTORY)
    answer = await finished(a, physician, accepted.json()["importId"])
    assert [(note["version"], note["code"]) for note in answer["notes"]] == [
        (None, "NOTE_ID_REUSED"),
        (2, None),
        (3, None),
    ]


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"{", 400, "MALFORMED_REQUEST"),
        ({"text": "x"}, 422, "BUNDLE_INVALID"),
        (bundle({}), 422, "BUNDLE_INVALID"),
        (bundle({"urn:x:e1": encounter(status="CANARY")}), 422, "BUNDLE_INVALID"),
        (bundle({"urn:x:e1": encounter(), "urn:x:o": observation("urn:x:e1", "CANARY")}), 422, "BUNDLE_INVALID"),
        (bundle({PATIENT_URL: patient("CANARY"), "urn:x:e1": encounter()}), 422, "BUNDLE_INVALID"),
        (b'{"a":"' + b"x" * (8 * 1024 * 1024) + b'"}', 413, "CONTENT_TOO_LARGE"),
    ],
    ids=range(7),
)
async def test_a_bundle_that_makes_no_note_is_a_problem_and_leaves_no_job(
    a: RecordsHospital, physician: Person, patient: Person, body: Any, status: int, name: str
) -> None:
    response = await post_import(a, physician, patient.emr_id, body)
    assert code(response) == (status, name)
    assert "CANARY" not in response.text
    async with a.engine.connect() as connection:
        query = sa.select(sa.func.count()).where(import_job.c.emr_id == patient.emr_id)
        assert await connection.scalar(query) == 0


async def test_a_bundle_over_the_limit_of_notes_is_accepted_as_an_import(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    large = {**HISTORY, "identifier": {"value": "x" * 2_000_000}}
    accepted = await post_import(a, physician, patient.emr_id, large)
    assert accepted.status_code == 202
    await finished(a, physician, accepted.json()["importId"])


async def test_an_import_is_its_physicians_alone(a: RecordsHospital, physician: Person, patient: Person) -> None:
    accepted = await post_import(a, physician, patient.emr_id, HISTORY)
    path = f"/imports/{accepted.json()['importId']}"
    assert code(await get(a, await a.enrol(Role.PHYSICIAN), path)) == (404, "IMPORT_NOT_FOUND")
    assert code(await get(a, physician, f"/imports/{'0' * 32}")) == (404, "IMPORT_NOT_FOUND")
    await finished(a, physician, accepted.json()["importId"])


async def test_the_bundle_waits_sealed_and_another_instance_goes_on_where_one_died(
    a: RecordsHospital, physician: Person, patient: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first instance commits one note and never hears of it again; the second one finishes."""
    ledger, perform = a.foundation.ledger, a.foundation.ledger.perform
    committed: list[Committed] = []

    async def dies(*arguments: Any, **options: Any) -> Committed:
        call = arguments[1]
        if (call.function, call.arguments[0]) == (Function.ADD_EMR_NOTE, patient.emr_id):
            committed.append(await perform(*arguments, **options))
            raise OutcomePending(committed[-1].transaction_id)
        return await perform(*arguments, **options)

    monkeypatch.setattr(imports, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(ledger, "perform", dies)
    import_id = (await post_import(a, physician, patient.emr_id, HISTORY)).json()["importId"]
    async with asyncio.timeout(20):
        while not committed:
            await asyncio.sleep(0.02)
    kept = await kept_bundle(a, import_id)
    assert kept is not None
    assert b"urn:x:e1" not in kept
    monkeypatch.setattr(ledger, "perform", perform)
    async with a.instance():
        answer = await finished(a, physician, import_id)
    assert [note["version"] for note in answer["notes"]] == [1, 2, 3]
    assert answer["notes"][0]["transactionId"] is None
    assert (await get(a, physician, f"/emrs/{patient.emr_id}")).json()["version"] == 3


async def test_an_import_waits_for_a_hospital_that_cannot_be_reached(
    a: RecordsHospital, physician: Person, patient: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, perform = a.foundation.ledger, a.foundation.ledger.perform

    async def unavailable(*arguments: Any, **options: Any) -> Committed:
        raise Problem(Code.HOSPITAL_UNAVAILABLE)

    monkeypatch.setattr(imports, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(ledger, "perform", unavailable)
    a.wired.import_worker.wake_up()
    import_id = (await post_import(a, physician, patient.emr_id, HISTORY)).json()["importId"]
    await asyncio.sleep(0.5)
    assert (await get(a, physician, f"/imports/{import_id}")).json()["state"] == "running"
    monkeypatch.setattr(ledger, "perform", perform)
    a.wired.import_worker.wake_up()
    assert [note["version"] for note in (await finished(a, physician, import_id))["notes"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("gone", "name"),
    [
        (sa.update(wallet).values(sealed_private_key=None), "IDENTITY_UNKNOWN"),
        (sa.delete(emr_key), "EMR_ERASED"),
    ],
)
async def test_an_import_whose_physician_or_key_is_gone_fails_and_drops_the_bundle(
    a: RecordsHospital, physician: Person, patient: Person, gone: Any, name: str
) -> None:
    column = wallet.c.enrolment_id if name == "IDENTITY_UNKNOWN" else emr_key.c.emr_id
    store = ImportStore(a.engine)
    again = "f" * 31 + ("1" if name == "EMR_ERASED" else "2")
    assert patient.emr_id is not None
    key = await a.wired.content.emr_keys.get(patient.emr_id)
    sealed = imports.seal_bundle(key, again, patient.emr_id, json.dumps(HISTORY).encode())
    who = physician.enrolment_id if name == "IDENTITY_UNKNOWN" else patient.emr_id
    async with a.engine.begin() as connection:
        await connection.execute(gone.where(column == who))
    other = await a.enrol(Role.PHYSICIAN)
    caller = physician.enrolment_id if name == "IDENTITY_UNKNOWN" else other.enrolment_id
    await store.add(ImportJob(again, patient.emr_id, caller, "queued", sealed), [])
    a.wired.import_worker.wake_up()
    async with asyncio.timeout(20):
        while (found := await store.find(again)) is None or found.state != "failed":
            await asyncio.sleep(0.05)
    assert found.sealed_bundle is None
    assert [(result.resource, result.code) for result in await store.results(again)] == [("Bundle", name)]


@pytest.mark.skipif(not synthea_files(), reason="no sample bundles beside the checkout")
async def test_a_synthea_patient_goes_in_and_comes_back_whole(a: RecordsHospital, physician: Person) -> None:
    data = synthea_files()[0].read_bytes()
    value = parse(data)
    resource = next(e["resource"] for e in value["entry"] if e["resource"]["resourceType"] == "Patient")
    person = await a.admit(resource)
    accepted = await post_import(a, physician, person.emr_id, data)
    answer = await finished(a, physician, accepted.json()["importId"])
    encounters = [e for e in value["entry"] if e["resource"]["resourceType"] == "Encounter"]
    assert [note["version"] for note in answer["notes"]] == list(range(1, len(encounters) + 1))
    download = (await get(a, person, "/me/emr")).json()
    assert download["entry"][0]["fullUrl"] == f"urn:uuid:{resource['id']}"
    assert len(download["entry"]) == 1 + len(encounters)


async def test_many_imports_at_once_all_end(a: RecordsHospital, physician: Person) -> None:
    people = [await a.admit() for _ in range(PIECES_AT_ONCE + 4)]
    jobs = [(await post_import(a, physician, person.emr_id, note_bundle())).json()["importId"] for person in people]
    answers = await asyncio.gather(*(finished(a, physician, job) for job in jobs))
    assert [answer["notes"][0]["version"] for answer in answers] == [1] * len(people)
