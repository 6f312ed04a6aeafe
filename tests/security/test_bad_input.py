"""Hostile and mistaken requests: each a problem document with a stable code that repeats nothing and leaves nothing."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from emr_model.clinical.limits import BODY_MAX_BYTES, IMPORT_MAX_BYTES, TEXT_MAX_CHARACTERS
from support.fhir_samples import bundle, encounter, observation
from support.footprint import footprint
from support.sharing_steps import Cast, Steps
from support.stack import Actor, Stack

WORD = "zebra-7f3a"
"""Stands in what is sent; no answer may hold it."""

NOBODY = "0" * 32
NO_TRANSACTION = "0" * 64
ADMIN = Actor("a", "admin", "admin", "admin")
EMR, NOTES, IMPORTS = "/emrs/{emr}", "/emrs/{emr}/notes", "/emrs/{emr}/imports"
APPROVAL, OWNERS_APPROVAL = "/me/sharings/HospitalB/approval", "/emrs/{emr}/sharings/HospitalB/owner-approval"


@dataclass(frozen=True)
class Sent:
    """A request of `role`, and what is due. `body` is bytes, or what is sent as JSON."""

    service: str
    method: str
    path: str
    body: Any
    status: int
    code: str
    role: str = "physician"
    headers: Mapping[str, str] = field(default_factory=dict)


def _post_note(body: Any, status: int, code: str, **headers: str) -> Sent:
    return Sent("records", "POST", NOTES, body, status, code, headers=headers)


def _import(body: Any, status: int, code: str) -> Sent:
    return Sent("records", "POST", IMPORTS, body, status, code)


def _read(path: str, status: int, code: str, role: str = "physician") -> Sent:
    return Sent("records", "GET", path, None, status, code, role)


def _search(body: Any, status: int, code: str) -> Sent:
    return Sent("records", "POST", "/emrs/search", body, status, code)


def _disclose(status: int, code: str, **changes: Any) -> Sent:
    body = {"ownerMsp": "HospitalB", "patientId": NOBODY, "purpose": "TREAT", **changes}
    return Sent("records", "POST", "/disclosures", body, status, code)


def _register(patient: Any, status: int, code: str, **more: Any) -> Sent:
    body = {"subject": "nobody-1", "patient": patient, **more}
    return Sent("registration", "POST", "/patients", body, status, code, "healthcenter")


def _at_registration(method: str, path: str, body: Any, status: int, code: str, role: str = "healthcenter") -> Sent:
    return Sent("registration", method, path, body, status, code, role)


def _at_consent(method: str, path: str, body: Any, status: int, code: str, role: str) -> Sent:
    return Sent("consent", method, path, body, status, code, role)


def _request(status: int, code: str, role: str = "physician", **changes: Any) -> Sent:
    body = {"ownerMsp": "HospitalB", "patientId": NOBODY, "purpose": "TREAT", **changes}
    return _at_consent("POST", "/access-requests", body, status, code, role)


NOTE = {"text": f"Seen today. {WORD}"}
PATIENT = {"resourceType": "Patient", "gender": "female", "name": [{"family": WORD}]}
KNOWN = {**PATIENT, "identifier": [{"system": "http://hospital.smarthealthit.org", "value": f"{WORD}-9"}]}
SPACE = b"[" + b" " * BODY_MAX_BYTES + b"]"

OF_ANY_BODY = {
    "no body": _post_note(b"", 400, "MALFORMED_REQUEST"),
    "no JSON": _post_note(f"{{{WORD}".encode(), 400, "MALFORMED_REQUEST"),
    "JSON that is no object": _post_note(json.dumps([WORD]).encode(), 400, "MALFORMED_REQUEST"),
    "a member twice": _post_note(b'{"text": "a", "text": "b"}', 400, "MALFORMED_REQUEST"),
    "not a number": _post_note(b'{"text": NaN}', 400, "MALFORMED_REQUEST"),
    "a lone surrogate": _post_note(b'{"text": "\\ud800"}', 400, "MALFORMED_REQUEST"),
    "bytes that are no UTF-8": _post_note(b'{"text": "\xff"}', 400, "MALFORMED_REQUEST"),
    "arrays a hundred thousand deep": _post_note(b"[" * 100_000, 400, "MALFORMED_REQUEST"),
    "a number without end": _post_note(b'{"text": 1e999999999}', 400, "MALFORMED_REQUEST"),
    "a body over its limit": _post_note(SPACE, 413, "CONTENT_TOO_LARGE"),
    "plain text": _post_note(WORD.encode(), 415, "UNSUPPORTED_MEDIA_TYPE", **{"Content-Type": "text/plain"}),
    "an encoded body": _post_note(b"{}", 415, "UNSUPPORTED_MEDIA_TYPE", **{"Content-Encoding": "gzip"}),
    "no Idempotency-Key": _post_note(NOTE, 422, "IDEMPOTENCY_KEY_MISSING", **{"Idempotency-Key": ""}),
    "an endless Idempotency-Key": _post_note(NOTE, 422, "IDEMPOTENCY_KEY_MISSING", **{"Idempotency-Key": "k" * 256}),
    "an unknown path": _read(f"/{WORD}", 404, "NOT_FOUND"),
    "an unknown method": Sent("records", "PATCH", EMR, None, 405, "METHOD_NOT_ALLOWED"),
}

OF_NOTES = {
    "an unknown member": _post_note({**NOTE, WORD: 1}, 422, "VALIDATION_FAILED"),
    "no text": _post_note({"text": " "}, 422, "VALIDATION_FAILED"),
    "too much text": _post_note({"text": "x" * (TEXT_MAX_CHARACTERS + 1)}, 422, "VALIDATION_FAILED"),
    "a text that is a number": _post_note({"text": 1}, 422, "VALIDATION_FAILED"),
    "an amendment of nothing": _post_note({"amends": NOBODY, **NOTE}, 404, "NOTE_NOT_FOUND"),
    "an amendment of no id": _post_note({"amends": WORD, **NOTE}, 422, "VALIDATION_FAILED"),
    "a bundle without entries": _post_note({"resourceType": "Bundle", "type": WORD}, 422, "BUNDLE_INVALID"),
    "entries that are none": _post_note(
        {"resourceType": "Bundle", "type": "collection", "entry": [WORD]}, 422, "BUNDLE_INVALID"
    ),
    "a resource of no known type": _post_note(
        bundle({"urn:x:e1": encounter(), "urn:x:o": {"resourceType": WORD}}), 422, "BUNDLE_INVALID"
    ),
    "an encounter to come": _post_note(bundle({"urn:x:e1": encounter(status="planned")}), 422, "BUNDLE_INVALID"),
    "two encounters": _post_note(bundle({"urn:x:e1": encounter(), "urn:x:e2": encounter()}), 422, "BUNDLE_INVALID"),
    "a value of the wrong type": _post_note(
        bundle({"urn:x:e1": encounter(), "urn:x:o": observation("urn:x:e1", WORD)}), 422, "BUNDLE_INVALID"
    ),
    "another patient's bundle": _post_note(bundle({"urn:x:p": KNOWN, "urn:x:e1": encounter()}), 422, "BUNDLE_INVALID"),
    "a note over its limit": _post_note(
        bundle({"urn:x:e1": encounter(text={"status": "generated", "div": "<div>" + "x" * 300_000 + "</div>"})}),
        422,
        "BUNDLE_INVALID",
    ),
    "a version that passed": _post_note(NOTE, 412, "VERSION_CONFLICT", **{"If-Match": '"0"'}),
    "a version to come": _post_note(NOTE, 412, "VERSION_CONFLICT", **{"If-Match": '"9"'}),
    "a version that is none": _post_note(NOTE, 400, "MALFORMED_REQUEST", **{"If-Match": f'"{WORD}"'}),
    "a note for nobody": Sent("records", "POST", f"/emrs/{NOBODY}/notes", NOTE, 404, "EMR_NOT_FOUND"),
    "a note by admission": Sent("records", "POST", NOTES, NOTE, 403, "ROLE_NOT_ALLOWED", "healthcenter"),
    "a note by the patient": Sent("records", "POST", NOTES, NOTE, 403, "ROLE_NOT_ALLOWED", "patient"),
    "an import over its limit": _import(b"[" + b" " * IMPORT_MAX_BYTES + b"]", 413, "CONTENT_TOO_LARGE"),
    "an import that is no bundle": _import({"resourceType": WORD}, 422, "BUNDLE_INVALID"),
    "an import of nothing": _import(bundle({}), 422, "BUNDLE_INVALID"),
    "an import of bad resources only": _import(
        bundle({"urn:x:e1": encounter(period={"start": WORD})}), 422, "BUNDLE_INVALID"
    ),
    "an import for nobody": Sent(
        "records", "POST", f"/emrs/{NOBODY}/imports", bundle({"urn:x:e1": encounter()}), 404, "EMR_NOT_FOUND"
    ),
}

OF_READS = {
    "an unknown EMR": _read(f"/emrs/{NOBODY}", 404, "EMR_NOT_FOUND"),
    "an EMR id that is none": _read(f"/emrs/{WORD}", 422, "VALIDATION_FAILED"),
    "an unknown patient": _read(f"/emrs?patientId={NOBODY}", 404, "EMR_NOT_FOUND"),
    "an unknown note": _read(NOTES + "/99", 404, "NOTE_NOT_FOUND"),
    "a note before the first": _read(NOTES + "/0", 422, "VALIDATION_FAILED"),
    "a page of nothing": _read(NOTES + "?limit=0", 422, "VALIDATION_FAILED"),
    "a page of everything": _read(NOTES + "?limit=1000000", 422, "VALIDATION_FAILED"),
    "an unknown import": _read(f"/imports/{NOBODY}", 404, "IMPORT_NOT_FOUND"),
    "an unknown transaction": _read(f"/transactions/{NO_TRANSACTION}", 404, "TRANSACTION_NOT_FOUND"),
    "an EMR read by admission": _read(EMR, 403, "ROLE_NOT_ALLOWED", "healthcenter"),
    "an EMR read by its patient as staff would": _read(EMR, 403, "ROLE_NOT_ALLOWED", "patient"),
    "another hospital's EMR": _read(EMR, 403, "EMR_NOT_OWNED", "other_physician"),
    "a download by staff": _read("/me/emr", 403, "ROLE_NOT_ALLOWED"),
    "visits elsewhere": _read("/me/visit-count?provider=HospitalB", 403, "PROVIDER_NOT_OWN", "patient"),
    "a search without criteria": _search({}, 422, "VALIDATION_FAILED"),
    "a search for an unknown member": _search({WORD: 1}, 422, "VALIDATION_FAILED"),
    "a search as of a block to come": _search({"familyName": "M", "minBlock": 10**6}, 400, "BLOCK_UNKNOWN"),
    "a search as of no block": _search({"familyName": "M", "minBlock": -1}, 422, "VALIDATION_FAILED"),
    "a disclosure for no purpose": _disclose(422, "VALIDATION_FAILED", purpose=WORD),
    "a disclosure of an unknown patient": _disclose(403, "ACCESS_NOT_GRANTED"),
    "a disclosure of a patient of one's own": _disclose(409, "SHARING_WITH_SELF", ownerMsp="HospitalA"),
    "a disclosure by an unknown hospital": _disclose(403, "ACCESS_NOT_GRANTED", ownerMsp="HospitalX"),
    "a receipt that is none": _read(f"/disclosures/{WORD}/emr", 422, "VALIDATION_FAILED"),
    "a receipt of nobody's": _read(f"/disclosures/{NOBODY}.{NO_TRANSACTION}/emr", 403, "RECEIPT_INVALID"),
}

OF_REGISTRATION = {
    "a patient without an identifier": _register(PATIENT, 422, "VALIDATION_FAILED"),
    "a patient that is none": _register({"resourceType": WORD}, 422, "VALIDATION_FAILED"),
    "a patient born on no day": _register({**KNOWN, "birthDate": WORD}, 422, "VALIDATION_FAILED"),
    "an unknown member beside the patient": _register(KNOWN, 422, "VALIDATION_FAILED", **{WORD: 1}),
    "a patient registered by a physician": _at_registration(
        "POST", "/patients", {"subject": "nobody-2", "patient": KNOWN}, 403, "ROLE_NOT_ALLOWED", "physician"
    ),
    "a body over registration's limit": _at_registration("POST", "/patients", SPACE, 413, "CONTENT_TOO_LARGE"),
    "a look-up of nobody": _at_registration(
        "POST", "/patients/lookup", {"patientId": NOBODY}, 404, "PATIENT_NOT_REGISTERED"
    ),
    "a look-up by two things": _at_registration(
        "POST",
        "/patients/lookup",
        {"patientId": NOBODY, "identifier": {"system": WORD, "value": WORD}},
        422,
        "VALIDATION_FAILED",
    ),
    "staff enrolled by staff": _at_registration(
        "POST", "/staff", {"subject": "nobody-3", "role": "physician"}, 403, "ROLE_NOT_ALLOWED"
    ),
    "staff in no role": _at_registration(
        "POST", "/staff", {"subject": "nobody-3", "role": WORD}, 422, "VALIDATION_FAILED", "admin"
    ),
    "unknown staff revoked": _at_registration(
        "DELETE", "/staff/p-0123456789abcdef", None, 404, "STAFF_NOT_FOUND", "admin"
    ),
    "another hospital's profile": _at_registration(
        "PUT", "/organizations/HospitalB", {"name": WORD, "sealingKeys": []}, 403, "ORGANIZATION_NOT_OWN", "admin"
    ),
    "an unknown hospital": _at_registration("GET", "/organizations/HospitalX", None, 404, "ORGANIZATION_NOT_FOUND"),
    "an erasure that nobody asked for": _at_registration("DELETE", EMR, None, 409, "ERASURE_NOT_REQUESTED"),
    "an erasure of nothing": _at_registration("DELETE", f"/emrs/{NOBODY}", None, 404, "EMR_NOT_FOUND"),
    "a cancelled erasure that nobody asked for": _at_registration(
        "DELETE", "/me/erasure-request", None, 409, "ERASURE_NOT_REQUESTED", "patient"
    ),
}

OF_CONSENT = {
    "a request for no purpose": _request(422, "VALIDATION_FAILED", purpose=WORD),
    "a request for an unknown patient": _request(403, "ACCESS_NOT_GRANTED"),
    "a request to one's own hospital": _request(409, "SHARING_WITH_SELF", ownerMsp="HospitalA"),
    "a request by a patient": _request(403, "ROLE_NOT_ALLOWED", "patient"),
    "an unknown member of a request": _request(422, "VALIDATION_FAILED", **{WORD: WORD}),
    "a body over consent's limit": _at_consent(
        "POST", "/access-requests", SPACE, 413, "CONTENT_TOO_LARGE", "physician"
    ),
    "a version that nobody means": _at_consent(
        "PUT", APPROVAL, {"version": 999}, 412, "APPROVAL_VERSION_UNKNOWN", "patient"
    ),
    "a version that the owner does not mean": _at_consent(
        "PUT", OWNERS_APPROVAL, {"version": 999}, 412, "APPROVAL_VERSION_UNKNOWN", "healthcenter"
    ),
    "a version before the first": _at_consent("PUT", APPROVAL, {"version": -1}, 422, "VALIDATION_FAILED", "patient"),
    "a key that the recipient has not": _at_consent(
        "PUT", OWNERS_APPROVAL, {"version": 1, "recipientKeyId": WORD}, 412, "RECIPIENT_KEY_UNKNOWN", "healthcenter"
    ),
    "an approval for the past": _at_consent(
        "PUT", APPROVAL, {"version": 1, "expiresAt": "2020-01-01T00:00:00Z"}, 400, "ARGUMENT_INVALID", "patient"
    ),
    "an approval until no zone's time": _at_consent(
        "PUT", APPROVAL, {"version": 1, "expiresAt": "2099-01-01T00:00:00"}, 422, "VALIDATION_FAILED", "patient"
    ),
    "an approval for one's own hospital": _at_consent(
        "PUT", "/me/sharings/HospitalA/approval", {"version": 1}, 409, "SHARING_WITH_SELF", "patient"
    ),
    "an approval for an unknown hospital": _at_consent(
        "PUT", "/me/sharings/HospitalX/approval", {"version": 1}, 404, "ORGANIZATION_NOT_FOUND", "patient"
    ),
    "an approval by another role": _at_consent(
        "PUT", OWNERS_APPROVAL, {"version": 1}, 403, "ROLE_NOT_ALLOWED", "physician"
    ),
    "an approval by another hospital": _at_consent(
        "PUT", OWNERS_APPROVAL, {"version": 1}, 403, "EMR_NOT_OWNED", "other_healthcenter"
    ),
    "an end of nothing": _at_consent("DELETE", "/me/sharings/HospitalB", None, 404, "SHARING_NOT_FOUND", "patient"),
    "an end for no known reason": _at_consent(
        "DELETE", f"/emrs/{{emr}}/sharings/HospitalB?why={WORD}", None, 422, "VALIDATION_FAILED", "healthcenter"
    ),
    "sharings in no direction": _at_consent(
        "GET", f"/sharings?direction={WORD}", None, 422, "VALIDATION_FAILED", "physician"
    ),
    "sharings after no cursor": _at_consent(
        "GET", f"/sharings?after={WORD}", None, 400, "MALFORMED_REQUEST", "physician"
    ),
    "sharings as of a block to come": _at_consent(
        "GET", "/sharings?min_block=1000000", None, 400, "BLOCK_UNKNOWN", "physician"
    ),
    "the patient's sharings by staff": _at_consent(
        "GET", "/me/sharings", None, 403, "ROLE_NOT_ALLOWED", "healthcenter"
    ),
}

OF_INDEXER = {
    "a position for staff": Sent("indexer", "GET", "/position", None, 403, "ROLE_NOT_ALLOWED"),
    "a position to come": Sent("indexer", "GET", "/position?min_block=1000000", None, 400, "BLOCK_UNKNOWN", "admin"),
    "a verification of one EMR's rows": Sent(
        "indexer", "POST", "/verifications", {"emrId": "0" * 32}, 422, "VALIDATION_FAILED", "admin"
    ),
    "dead letters in no number": Sent(
        "indexer", "GET", f"/dead-letters?limit={WORD}", None, 422, "VALIDATION_FAILED", "admin"
    ),
    "dead letters after no cursor": Sent(
        "indexer", "GET", f"/dead-letters?after={WORD}", None, 400, "MALFORMED_REQUEST", "admin"
    ),
}

CASES = {**OF_ANY_BODY, **OF_NOTES, **OF_READS, **OF_REGISTRATION, **OF_CONSENT, **OF_INDEXER}


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="steps")
async def _steps(stack: Stack, cast: Cast) -> Steps:
    """One patient with one note, on whom nothing of this leaves a trace."""
    return await Steps.begin(stack, cast)


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="before")
async def _before(stack: Stack, steps: Steps) -> Counter[str]:
    for role in _people(steps).values():
        await stack.token(role.subject, role.organization)
    await stack.wait_for_rows("a")
    await stack.wait_for_rows("b")
    return await footprint(stack)


@pytest.mark.parametrize("name", CASES)
async def test_it_is_a_problem_that_repeats_nothing_and_leaves_nothing(
    stack: Stack, steps: Steps, before: Counter[str], name: str
) -> None:
    sent = CASES[name]
    answer = await _send(stack, _people(steps)[sent.role], sent, steps.patient.emr_id)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (sent.status, sent.code), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail", "requestId"} <= set(document)
    assert WORD not in answer.text + str(answer.headers)
    assert await footprint(stack) == before


def _people(steps: Steps) -> dict[str, Actor]:
    return {**vars(steps.cast), "patient": steps.patient, "admin": ADMIN}


async def _send(stack: Stack, who: Actor, sent: Sent, emr_id: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {await stack.token(who.subject, who.organization)}"}
    if sent.body is not None:
        headers["Content-Type"] = "application/json"
    if sent.method in {"POST", "PUT", "DELETE"}:
        headers["Idempotency-Key"] = secrets.token_hex(16)
    content = sent.body if isinstance(sent.body, bytes | None) else json.dumps(sent.body).encode()
    url = f"{stack.url(sent.service, who.organization)}/v1{sent.path.format(emr=emr_id)}"
    async with httpx.AsyncClient(timeout=40, trust_env=False) as http:
        return await http.request(sent.method, url, content=content, headers={**headers, **sent.headers})


async def test_a_key_that_was_used_for_something_else_is_refused(stack: Stack, cast: Cast) -> None:
    steps = await Steps.begin(stack, cast, notes=0)
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    assert (await steps.post_note("First.", headers=headers)).status == 201
    answer = await steps.post_note(f"Another. {WORD}", headers=headers)
    assert (answer.status, answer.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert WORD not in json.dumps(answer.body)
    assert (await steps.read())["version"] == 1


async def test_a_body_that_announces_no_length_ends_at_the_limit(stack: Stack, cast: Cast) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b" " * 65536

    token = await stack.token(cast.physician.subject, "a")
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Idempotency-Key": secrets.token_hex(16),
    }
    url = f"{stack.url('records', 'a')}/v1/emrs/{NOBODY}/notes"
    async with httpx.AsyncClient(timeout=40, trust_env=False) as http:
        answer = await http.post(url, content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "CONTENT_TOO_LARGE")


async def test_a_bundle_with_one_bad_resource_loses_only_the_note_it_belongs_to(stack: Stack, cast: Cast) -> None:
    patient = await stack.patient(cast.healthcenter)
    history = json.loads(stack.history().content)
    history["entry"] = [one for one in history["entry"] if one["resource"]["resourceType"] != "Patient"]
    resources = [one["resource"] for one in history["entry"]]
    bad = next(one for one in resources if one["resourceType"] == "Observation")
    bad["status"] = {WORD: WORD}
    visits = sum(one["resourceType"] == "Encounter" for one in resources)
    path = f"/emrs/{patient.emr_id}/imports"
    accepted = (await stack.call(cast.physician, "records", "POST", path, history)).required()
    assert (accepted["notes"], accepted["refused"]) == (visits - 1, 1)
    job: dict[str, Any] = {}

    async def ended() -> bool:
        job.update((await stack.call(cast.physician, "records", "GET", f"/imports/{accepted['importId']}")).body)
        return job["state"] in {"done", "failed"}

    await stack.until(ended, "the import ends")
    assert [one["version"] for one in job["notes"]] == list(range(1, visits))
    (named,) = [one for one in job["remarks"] if one["code"] == "BUNDLE_INVALID"]
    assert "Observation" in named["resource"]
    assert WORD not in json.dumps(job)
    notes = (await stack.call(cast.physician, "records", "GET", f"/emrs/{patient.emr_id}/notes")).required()["notes"]
    assert bad["encounter"]["reference"] not in json.dumps(notes)
