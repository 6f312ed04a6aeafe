"""Notes over HTTP, on a real ledger and a real database."""

import asyncio
import base64
import json
from typing import Any

import pytest
import sqlalchemy as sa
from emr_model.clinical.sealed_form import commitment
from emr_model.ledger.functions import Role
from emr_readmodel.hospital import access_log, emr_key
from support.fhir_samples import IDENTIFIER_SYSTEM, bundle, encounter, observation, visit_bundle
from support.fhir_samples import patient as patient_resource
from support.records_calls import code, get, note_bundle, post_note
from support.records_hospital import Person, RecordsHospital


async def test_a_posted_visit_is_committed_and_read_back(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    added = await post_note(a, physician, patient.emr_id, note_bundle())
    assert added.status_code == 201, added.text
    answer = added.json()
    assert (answer["emrId"], answer["version"]) == (patient.emr_id, 1)
    assert len(answer["transactionId"]) == 64
    assert answer["block"] > 0
    note = (await get(a, physician, f"/emrs/{patient.emr_id}/notes/1")).json()
    assert (note["noteId"], note["kind"], note["author"]) == (answer["noteId"], "encounter", physician.enrolment_id)
    assert [entry["resource"]["resourceType"] for entry in note["content"]["entry"]] == ["Encounter", "Observation"]


async def test_decimals_come_back_digit_by_digit_and_the_commitment_can_be_recomputed(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    body = json.dumps(note_bundle()).encode().replace(b'"value": 1,', b'"value": 1.50,')
    assert (await post_note(a, physician, patient.emr_id, body)).status_code == 201
    response = await get(a, physician, f"/emrs/{patient.emr_id}/notes/1")
    content = response.content.split(b'"content":', 1)[1][:-1]
    note = response.json()
    assert b'"value":1.50' in content
    assert commitment(base64.b64decode(note["salt"]), content) == note["commitment"]


async def test_the_emr_says_demographics_version_and_visits(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle("1"))
    await post_note(a, physician, patient.emr_id, {"text": "Slept well.", "title": "Ward round"})
    response = await get(a, physician, f"/emrs/{patient.emr_id}")
    emr = response.json()
    assert response.headers["etag"] == '"2"'
    assert (emr["version"], emr["visits"], emr["life"], emr["ownerMsp"]) == (2, 1, "active", "HospitalA")
    assert emr["demographics"]["resourceType"] == "Patient"
    found = (await get(a, physician, f"/emrs?patientId={patient.patient_id}")).json()["emrs"]
    assert [item["emrId"] for item in found] == [patient.emr_id]


async def test_notes_are_read_page_by_page(a: RecordsHospital, physician: Person, patient: Person) -> None:
    for number in range(3):
        await post_note(a, physician, patient.emr_id, {"text": f"note {number}"})
    first = (await get(a, physician, f"/emrs/{patient.emr_id}/notes?limit=2")).json()
    second = (await get(a, physician, f"/emrs/{patient.emr_id}/notes?from={first['next']}&limit=2")).json()
    assert [note["version"] for note in first["notes"] + second["notes"]] == [1, 2, 3]
    assert second["next"] is None
    assert code(await get(a, physician, f"/emrs/{patient.emr_id}/notes/4")) == (404, "NOTE_NOT_FOUND")


async def test_the_same_visit_again_is_the_same_note(a: RecordsHospital, physician: Person, patient: Person) -> None:
    first = await post_note(a, physician, patient.emr_id, note_bundle("7"))
    await post_note(a, physician, patient.emr_id, {"text": "between"})
    again = await post_note(a, physician, patient.emr_id, note_bundle("7"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {name: first.json()[name] for name in ("emrId", "noteId", "version")}


async def test_the_same_visit_with_other_content_is_refused(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle("7", value=1))
    changed = await post_note(a, physician, patient.emr_id, note_bundle("7", value=2))
    assert code(changed) == (409, "NOTE_ID_REUSED")


async def test_the_same_idempotency_key_twice_is_one_note_and_two_keys_are_two(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    one, again = [
        await post_note(a, physician, patient.emr_id, {"text": "the same"}, key=f"k-{patient.emr_id}") for _ in range(2)
    ]
    other = await post_note(a, physician, patient.emr_id, {"text": "the same"})
    assert one.json() == again.json()
    assert (one.json()["version"], other.json()["version"]) == (1, 2)
    reused = await post_note(a, physician, patient.emr_id, {"text": "another"}, key=f"k-{patient.emr_id}")
    assert code(reused) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_note_goes_in_at_the_version_that_if_match_says_or_not_at_all(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    first = await post_note(a, physician, patient.emr_id, note_bundle("1"), If_Match='"0"')
    late = await post_note(a, physician, patient.emr_id, note_bundle("2"), If_Match='"0"')
    early = await post_note(a, physician, patient.emr_id, note_bundle("2"), If_Match='"5"')
    repeated = await post_note(a, physician, patient.emr_id, note_bundle("1"), If_Match='"0"')
    right = await post_note(a, physician, patient.emr_id, note_bundle("2"), If_Match='"1"')
    odd = await post_note(a, physician, patient.emr_id, note_bundle("3"), If_Match="W/x")
    assert first.status_code == 201
    assert code(late) == (412, "VERSION_CONFLICT")
    assert code(early) == (412, "VERSION_CONFLICT")
    assert late.json()["version"] == 1
    assert (repeated.status_code, right.status_code) == (200, 201)
    assert code(odd) == (400, "MALFORMED_REQUEST")


async def test_an_amendment_names_its_note_which_must_be_there(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    note_id = (await post_note(a, physician, patient.emr_id, note_bundle())).json()["noteId"]
    text = await post_note(a, physician, patient.emr_id, {"amends": note_id, "text": "It was the left arm."})
    resources = await post_note(a, physician, patient.emr_id, {"amends": note_id, "bundle": note_bundle(value=2)})
    missing = await post_note(a, physician, patient.emr_id, {"amends": "0" * 32, "text": "x"})
    assert (text.json()["version"], resources.json()["version"]) == (2, 3)
    assert code(missing) == (404, "NOTE_NOT_FOUND")
    notes = (await get(a, physician, f"/emrs/{patient.emr_id}/notes")).json()["notes"]
    assert [note["kind"] for note in notes] == ["encounter", "amendment", "amendment"]
    assert {"system": "urn:careledger:amends", "code": note_id} in notes[2]["content"]["meta"]["tag"]


async def test_twenty_notes_at_once_through_two_instances_are_twenty_versions(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    async with a.instance() as (_, other):
        posts = [
            post_note(other if number % 2 else a.http, physician, patient.emr_id, {"text": f"note {number}"})
            for number in range(20)
        ]
        answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [201] * 20, [answer.text for answer in answers]
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 21))


async def test_every_read_is_in_the_access_log(a: RecordsHospital, physician: Person, patient: Person) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle())
    await get(a, physician, f"/emrs/{patient.emr_id}")
    await get(a, physician, f"/emrs?patientId={patient.patient_id}")
    await get(a, physician, f"/emrs/{patient.emr_id}/notes")
    await get(a, physician, f"/emrs/{patient.emr_id}/notes/1")
    await get(a, patient, "/me/emr")
    assert await logged_reads(a, patient.emr_id) == [
        (physician.enrolment_id, "read-emr", None),
        (physician.enrolment_id, "find-emr", None),
        (physician.enrolment_id, "read-notes", None),
        (physician.enrolment_id, "read-note", 1),
        (patient.enrolment_id, "download-emr", None),
    ]


async def logged_reads(a: RecordsHospital, emr_id: str | None) -> list[tuple[Any, ...]]:
    query = sa.select(access_log.c.reader, access_log.c.action, access_log.c.note_version)
    async with a.engine.connect() as connection:
        rows = await connection.execute(query.where(access_log.c.emr_id == emr_id).order_by(access_log.c.id))
        return [tuple(row) for row in rows]


async def test_what_shows_nothing_is_not_logged_as_a_read(
    a: RecordsHospital, physician: Person, patient: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note that is not there, content that the peer does not hold, an EMR whose key is gone."""
    await post_note(a, physician, patient.emr_id, note_bundle())
    assert code(await get(a, physician, f"/emrs/{patient.emr_id}/notes/2")) == (404, "NOTE_NOT_FOUND")
    evaluate = a.foundation.ledger.evaluate

    async def without_content(*arguments: Any, **options: Any) -> bytes:
        answer = json.loads(await evaluate(*arguments, **options))
        return json.dumps({**answer, "demographics": None}).encode()

    with monkeypatch.context() as patched:
        patched.setattr(a.foundation.ledger, "evaluate", without_content)
        assert code(await get(a, physician, f"/emrs/{patient.emr_id}")) == (503, "CONTENT_UNAVAILABLE")
    async with a.engine.begin() as connection:
        await connection.execute(sa.delete(emr_key).where(emr_key.c.emr_id == patient.emr_id))
    assert code(await get(a, physician, f"/emrs/{patient.emr_id}/notes")) == (503, "CONTENT_UNAVAILABLE")
    assert await logged_reads(a, patient.emr_id) == []


async def test_a_read_that_cannot_be_logged_is_not_answered(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    async with a.engine.begin() as connection:
        await connection.execute(sa.text("alter table hospital.access_log rename to away"))
    try:
        response = await get(a, physician, f"/emrs/{patient.emr_id}")
        assert response.status_code >= 500
        assert "Patient" not in response.text
    finally:
        async with a.engine.begin() as connection:
            await connection.execute(sa.text("alter table hospital.away rename to access_log"))


async def test_a_patient_downloads_the_whole_emr_as_one_bundle(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    for body in (note_bundle("1"), {"text": "typed"}):
        await post_note(a, physician, patient.emr_id, body)
    response = await get(a, patient, "/me/emr")
    entries = response.json()["entry"]
    assert response.headers["content-type"] == "application/fhir+json"
    assert [entry["resource"]["resourceType"] for entry in entries] == ["Patient", "Bundle", "Bundle"]
    assert response.json()["identifier"]["value"] == patient.emr_id
    count = await get(a, patient, "/me/visit-count?provider=HospitalA")
    assert count.json() == {"provider": "HospitalA", "visits": 1}
    assert code(await get(a, patient, "/me/visit-count?provider=HospitalB")) == (403, "PROVIDER_NOT_OWN")
    assert (await get(a, patient, "/me/disclosures")).json() == {"disclosures": []}


async def test_a_bundle_of_another_patient_is_refused(a: RecordsHospital, physician: Person) -> None:
    person = await a.admit(patient_resource("MRN-77"))
    same, other = visit_bundle(), visit_bundle()
    same["entry"][0]["resource"] = patient_resource(" MRN-77 ")
    other["entry"][0]["resource"] = patient_resource("MRN-78")
    unknown = visit_bundle()
    unknown["entry"][0]["resource"]["identifier"][0]["system"] = "urn:elsewhere"
    refused = await post_note(a, physician, person.emr_id, other)
    assert code(refused) == (422, "BUNDLE_INVALID")
    assert "MRN" not in refused.text
    assert (await post_note(a, physician, person.emr_id, same)).status_code == 201
    assert (await post_note(a, physician, person.emr_id, unknown)).status_code == 200
    assert IDENTIFIER_SYSTEM not in refused.text


BAD_BODIES: list[tuple[Any, int, str]] = [
    (b"{", 400, "MALFORMED_REQUEST"),
    (b'{"text":"CANARY","text":"CANARY"}', 400, "MALFORMED_REQUEST"),
    (b"[" * 100_000, 400, "MALFORMED_REQUEST"),
    (b"[]", 400, "MALFORMED_REQUEST"),
    (b"{}", 422, "VALIDATION_FAILED"),
    ({"text": "CANARY", "CANARY": 1}, 422, "VALIDATION_FAILED"),
    ({"text": ""}, 422, "VALIDATION_FAILED"),
    ({"text": "  "}, 422, "VALIDATION_FAILED"),
    ({"text": 1}, 422, "VALIDATION_FAILED"),
    ({"text": "x", "title": ["CANARY"]}, 422, "VALIDATION_FAILED"),
    ({"amends": "CANARY", "text": "x"}, 422, "VALIDATION_FAILED"),
    ({"amends": "0" * 32}, 422, "VALIDATION_FAILED"),
    ({"amends": "0" * 32, "text": "x", "bundle": {}}, 422, "VALIDATION_FAILED"),
    ({"amends": "0" * 32, "bundle": {"resourceType": "CANARY"}}, 422, "BUNDLE_INVALID"),
    ({"resourceType": "Bundle"}, 422, "BUNDLE_INVALID"),
    ({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"CANARY": 1}}]}, 422, "BUNDLE_INVALID"),
    (bundle({}), 422, "BUNDLE_INVALID"),
    (bundle({"urn:x:e1": encounter(status="planned")}), 422, "BUNDLE_INVALID"),
    (bundle({"urn:x:e1": encounter(), "urn:x:e2": encounter()}), 422, "BUNDLE_INVALID"),
    (bundle({"urn:x:e1": encounter(), "urn:x:o": observation(None)}), 422, "BUNDLE_INVALID"),
    (bundle({"urn:x:e1": encounter(), "urn:x:o": observation("urn:x:e1", "CANARY")}), 422, "BUNDLE_INVALID"),
    (b'{"text":"' + b"x" * (1024 * 1024) + b'"}', 413, "CONTENT_TOO_LARGE"),
]


@pytest.mark.parametrize(("body", "status", "name"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_a_bad_body_is_a_problem_that_repeats_nothing_and_leaves_nothing(
    a: RecordsHospital, physician: Person, patient: Person, body: Any, status: int, name: str
) -> None:
    response = await post_note(a, physician, patient.emr_id, body)
    assert code(response) == (status, name), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "CANARY" not in response.text
    assert (await get(a, physician, f"/emrs/{patient.emr_id}")).json()["version"] == 0


async def test_what_is_wrong_in_a_bundle_is_named_by_place_and_reason(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    bad = bundle({"urn:x:e1": encounter(), "urn:x:o": observation("urn:x:e1", "CANARY")})
    errors = (await post_note(a, physician, patient.emr_id, bad)).json()["errors"]
    assert errors == [
        {"pointer": "entry/1/resource/valueQuantity/value", "resourceType": "Observation", "reason": "value-error"}
    ]


async def test_who_may_not_is_refused(
    a: RecordsHospital, b: RecordsHospital, physician: Person, patient: Person
) -> None:
    foreign = await b.enrol(Role.PHYSICIAN)
    clerk = await a.enrol(Role.HEALTHCENTER)
    assert code(await post_note(a, clerk, patient.emr_id, {"text": "x"})) == (403, "ROLE_NOT_ALLOWED")
    assert code(await get(a, patient, f"/emrs/{patient.emr_id}")) == (403, "ROLE_NOT_ALLOWED")
    assert code(await get(b, foreign, f"/emrs/{patient.emr_id}")) == (403, "EMR_NOT_OWNED")
    assert code(await get(a, foreign, f"/emrs/{patient.emr_id}")) == (403, "IDENTITY_UNKNOWN")
    assert code(await get(a, physician, f"/emrs/{'0' * 32}")) == (404, "EMR_NOT_FOUND")
    assert code(await post_note(a, physician, "0" * 32, {"text": "x"})) == (404, "EMR_NOT_FOUND")
    assert code(await get(a, physician, "/emrs/not-an-id")) == (422, "VALIDATION_FAILED")
    text = await a.http.post(
        f"/emrs/{patient.emr_id}/notes", content=b"x", headers=physician.headers(Idempotency_Key="k")
    )
    assert code(text) == (415, "UNSUPPORTED_MEDIA_TYPE")
    without_key = physician.headers(Content_Type="application/json")
    unkeyed = await a.http.post(f"/emrs/{patient.emr_id}/notes", json={"text": "x"}, headers=without_key)
    assert code(unkeyed) == (422, "IDEMPOTENCY_KEY_MISSING")


async def test_content_that_was_exchanged_is_refused_and_raises_the_alarm(
    a: RecordsHospital, physician: Person, patient: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two notes' sealed bytes change places: both are genuine, neither is in its place."""
    for number in range(2):
        await post_note(a, physician, patient.emr_id, {"text": f"CANARY {number}"})
    evaluate = a.foundation.ledger.evaluate

    async def exchanged(*arguments: Any, **options: Any) -> bytes:
        answer = json.loads(await evaluate(*arguments, **options))
        one, two = answer["notes"]
        one["sealed"], two["sealed"] = two["sealed"], one["sealed"]
        return json.dumps(answer).encode()

    monkeypatch.setattr(a.foundation.ledger, "evaluate", exchanged)
    response = await get(a, physician, f"/emrs/{patient.emr_id}/notes")
    assert code(response) == (500, "CONTENT_MISMATCH")
    assert "CANARY" not in response.text


async def test_a_note_id_says_nothing_without_the_hospitals_key(
    a: RecordsHospital, physician: Person, patient: Person
) -> None:
    other = await a.admit()
    ids = [(await post_note(a, physician, each.emr_id, note_bundle("1"))).json()["noteId"] for each in (patient, other)]
    assert ids[0] != ids[1]
