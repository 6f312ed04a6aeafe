"""People who keep their own key: every writing operation and every read, each step signed by them alone."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from emr_common.preparations import ENDORSE_WITHIN, SUBMIT_WITHIN
from emr_deploy.callers import Answer
from hlf import crypto
from support.key_holder import KeyHolder, request_of
from support.sharing_steps import Cast, Steps
from support.stack import Actor, Stack

PURPOSE = "TREAT"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def clerk(stack: Stack) -> KeyHolder:
    return await KeyHolder.staff(stack, "a", "healthcenter")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def physician(stack: Stack) -> KeyHolder:
    return await KeyHolder.staff(stack, "a", "physician")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def patient(stack: Stack, clerk: KeyHolder) -> KeyHolder:
    return await admitted(stack, clerk)


async def admitted(stack: Stack, clerk: KeyHolder) -> KeyHolder:
    """A patient with an own key, registered by a clerk with an own key."""
    key, subject = crypto.new_private_key(), f"patient-{secrets.token_hex(4)}"
    body = {
        "subject": subject,
        "patient": stack.patient_resource(),
        "certificateRequest": request_of("patient", key),
    }
    made = (await clerk.write("registration", "CreateEmr", **body)).required()
    actor = Actor("a", subject, "patient", made["enrolmentId"], made["patientId"], made["emrId"])
    return KeyHolder(stack, actor, lambda signed: crypto.sign(key, signed))


async def test_both_workflows_run_with_keys_that_the_hospital_never_has(
    stack: Stack, clerk: KeyHolder, physician: KeyHolder, patient: KeyHolder, cast: Cast
) -> None:
    emr_id, other = patient.actor.emr_id, stack.msp_id("b")
    note = await physician.write("records", "AddEmrNote", emrId=emr_id, note={"text": "Seen today."})
    assert (note.status, note.body["version"]) == (200, 1)
    read = (await physician.read("records", "ReadEmr", emrId=emr_id)).required()
    assert read["demographics"]["resourceType"] == "Patient"
    assert [one["noteId"] for one in read["notes"]] == [note.body["noteId"]]
    assert (await physician.read("records", "GetEmrByPatientId", patientId=patient.actor.patient_id)).status == 200
    registered = await clerk.read("registration", "CheckIsPatientRegistered", patientId=patient.actor.patient_id)
    assert registered.body == {"patientId": patient.actor.patient_id, "emrId": emr_id}

    authorized = await clerk.write("consent", "AuthorizeEmrReading", emrId=emr_id, recipientMsp=other, version=1)
    approved = await patient.write("consent", "ApproveEmrSharing", recipientMsp=other, version=1)
    assert authorized.body["number"] == approved.body["number"] == 1
    steps = Steps(stack, cast, patient.actor, version=1)

    async def is_shared() -> bool:
        sharings = (await patient.read("consent", "GetOwnSharings")).required()["sharings"]
        return bool(sharings[0]["readableVersion"] == 1)

    await stack.until(is_shared, "version 1 is shared")
    reader = await KeyHolder.staff(stack, "b", "physician")
    wanted = {"ownerMsp": stack.msp_id("a"), "patientId": patient.actor.patient_id, "purpose": PURPOSE}
    receipt = (await reader.write("records", "GetSharedEMR", **wanted)).required()["receipt"]
    shared = (await reader.read("records", "ReadSharedEmr", receipt=receipt)).required()
    assert [one["noteId"] for one in shared["notes"]] == [note.body["noteId"]]
    disclosures = (await patient.read("records", "GetOwnDisclosures")).required()["disclosures"]
    assert [one["receipt"] for one in disclosures] == [receipt]
    visits = (await patient.read("records", "GetMedicalVisitCount", provider=stack.msp_id("a"))).required()
    assert visits == {"provider": stack.msp_id("a"), "visits": 0}

    assert (await patient.write("consent", "RemoveEmrSharing", recipientMsp=other)).status == 200
    assert (await steps.disclose()).code == "ACCESS_NOT_GRANTED"


async def test_a_whole_record_is_updated_and_erased_with_own_keys(stack: Stack, clerk: KeyHolder) -> None:
    patient = await admitted(stack, clerk)
    emr_id = patient.actor.emr_id
    resource = stack.patient_resource(birthDate="1980-01-01")
    updated = await clerk.write("registration", "UpdateDemographics", emrId=emr_id, patient=resource)
    assert (updated.status, updated.body["revision"]) == (200, 2)
    own = (await patient.read("records", "GetOwnEmr")).required()
    assert own["demographics"]["birthDate"] == "1980-01-01"
    for function in ("RequestErasure", "CancelErasure", "RequestErasure"):
        assert (await patient.write("registration", function)).required()["emrId"] == emr_id
    assert (await clerk.write("registration", "EraseEmr", emrId=emr_id)).required()["emrId"] == emr_id
    assert await stack.sql("a", "select 1 from hospital.emr_key where emr_id = $1", emr_id) == []
    assert (await clerk.prepare("registration", "UpdateDemographics", emrId=emr_id, patient=resource)).status == 410


async def test_a_patient_sees_before_approving_what_would_be_shared(
    stack: Stack, clerk: KeyHolder, physician: KeyHolder
) -> None:
    own, other = await admitted(stack, clerk), stack.msp_id("b")
    emr_id = own.actor.emr_id
    note = (await physician.write("records", "AddEmrNote", emrId=emr_id, note={"text": "Seen today."})).required()
    shown = (await own.read("consent", "GetOwnEmr", recipientMsp=other)).required()
    assert (shown["version"], shown["recipientMsp"], shown["state"]) == (1, other, None)
    assert [(one["noteId"], one["isNew"]) for one in shown["notes"]] == [(note["noteId"], True)]
    read = (await physician.read("records", "ReadEmr", emrId=emr_id)).required()
    assert (shown["demographics"], shown["notes"][0]["content"]) == (read["demographics"], read["notes"][0]["content"])
    outline = (await clerk.read("consent", "GetOrganization", emrId=emr_id, recipientMsp=other)).required()
    assert [one.get("content") for one in outline["notes"]] == [None]
    assert (outline["version"], outline["recipientName"]) == (1, shown["recipientName"])
    for wanted, code in (
        (await own.read("consent", "GetOwnEmr", recipientMsp=other, version=9), "APPROVAL_VERSION_UNKNOWN"),
        (await own.prepare("consent", "GetOwnEmr", recipientMsp=stack.msp_id("a")), "SHARING_WITH_SELF"),
        (await own.read("consent", "GetOwnEmr", recipientMsp="Nowhere"), "ORGANIZATION_NOT_FOUND"),
        (await own.prepare("consent", "GetOrganization", emrId=emr_id, recipientMsp=other), "ROLE_NOT_ALLOWED"),
    ):
        assert wanted.code == code
    query = "select role from hospital.access_log where emr_id = $1 and action = 'preview-sharing' order by role"
    assert [row["role"] for row in await stack.sql("a", query, emr_id)] == ["healthcenter", "patient"]


async def test_a_patient_downloads_the_whole_record_and_every_access_to_it(
    stack: Stack, physician: KeyHolder, patient: KeyHolder
) -> None:
    emr_id = patient.actor.emr_id
    (await physician.read("records", "ReadEmr", emrId=emr_id)).required()
    bundle = (await patient.read("records", "GetOwnEmr", form="bundle")).required()
    assert bundle["resourceType"] == "Bundle"
    prepared = (await patient.prepare("records", "GetOwnEmr", form="pdf")).required()
    url = f"{stack.url('records', 'a')}/v1/transactions/{prepared['transactionId']}/evaluate"
    headers = {"Authorization": f"Bearer {await stack.token(patient.actor.subject, 'a')}"}
    signature = base64.b64encode(patient.sign(base64.b64decode(prepared["bytes"]))).decode()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        pdf = await http.post(url, headers=headers, json={"signature": signature})
    assert (pdf.status_code, pdf.headers["content-type"]) == (200, "application/pdf")
    assert pdf.content.startswith(b"%PDF-")
    accesses = (await patient.read("records", "GetOwnDisclosures", form="accesses")).required()["accesses"]
    found = {(one["role"], one["action"]) for one in accesses}
    assert {("physician", "read-emr"), ("patient", "download-emr")} <= found
    moments = [one["at"] for one in accesses]
    assert moments == sorted(moments)


async def test_a_read_that_was_prepared_at_one_service_is_not_answered_by_another(
    stack: Stack, patient: KeyHolder
) -> None:
    preview = (await patient.prepare("consent", "GetOwnEmr", recipientMsp=stack.msp_id("b"))).required()
    page = (await patient.prepare("records", "GetOwnEmr")).required()
    for service, prepared in (("records", preview), ("consent", page)):
        assert (await patient.step(service, "evaluate", prepared)).code == "TRANSACTION_NOT_FOUND"


async def test_no_private_key_of_such_a_person_is_in_the_hospitals_database(stack: Stack, patient: KeyHolder) -> None:
    query = "select sealed_private_key, certificate_pem from hospital.wallet where enrolment_id = $1"
    (row,) = await stack.sql("a", query, patient.actor.enrolment_id)
    assert row["sealed_private_key"] is None
    me = (await stack.call(patient.actor, "registration", "GET", "/me")).required()
    assert (me["keepsKey"], me["certificate"]) == (True, row["certificate_pem"])


async def test_a_repeated_step_answers_the_same_through_any_instance(
    stack: Stack, physician: KeyHolder, patient: KeyHolder
) -> None:
    key, body = secrets.token_hex(8), {"emrId": patient.actor.emr_id, "note": {"text": "Twice."}}
    prepared = [await physician.prepare("records", "AddEmrNote", key=key, **body) for _ in range(2)]
    assert prepared[0].status == 201
    assert prepared[0].body == prepared[1].body
    endorsed = await asyncio.gather(*(physician.step("records", "endorse", prepared[0].body) for _ in range(5)))
    assert all(one.body == endorsed[0].body for one in endorsed)
    submitted = await asyncio.gather(*(physician.step("records", "submit", endorsed[0].body) for _ in range(5)))
    assert all((one.status, one.body) == (200, submitted[0].body) for one in submitted)
    again = await physician.step("records", "submit", endorsed[0].body)
    assert again.body == submitted[0].body
    told = await stack.call(physician.actor, "consent", "GET", f"/transactions/{again.body['transactionId']}")
    assert (told.body["state"], told.body["block"]) == ("committed", again.body["block"])


REFUSED = {
    "a signature of another key": (422, "SIGNATURE_INVALID"),
    "a signature over other bytes": (422, "SIGNATURE_INVALID"),
    "the signature of the step before": (422, "SIGNATURE_INVALID"),
    "no signature at all": (422, "SIGNATURE_INVALID"),
    "another caller": (404, "TRANSACTION_NOT_FOUND"),
    "another service": (404, "TRANSACTION_NOT_FOUND"),
    "submitted before it was endorsed": (409, "STEP_NOT_READY"),
    "a write that is evaluated": (409, "STEP_NOT_READY"),
    "endorsed after four minutes": (410, "PREPARATION_EXPIRED"),
    "submitted after ten minutes": (410, "PREPARATION_EXPIRED"),
    "prepared by one whose key the hospital keeps": (409, "KEY_HELD_HERE"),
    "prepared by another role": (403, "ROLE_NOT_ALLOWED"),
    "the operation itself called without a signature": (403, "SIGNATURE_NEEDED"),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_a_step_is_refused(stack: Stack, clerk: KeyHolder, patient: KeyHolder, cast: Cast, how: str) -> None:
    handed_in = "select transaction_id from hospital.transaction where caller = $1"
    before = await stack.sql("a", handed_in, clerk.actor.enrolment_id)
    answer = await _refused(stack, clerk, patient, cast, how)
    assert (answer.status, answer.code) == REFUSED[how]
    assert await stack.sql("a", handed_in, clerk.actor.enrolment_id) == before


async def _refused(stack: Stack, clerk: KeyHolder, patient: KeyHolder, cast: Cast, how: str) -> Answer:
    body: dict[str, Any] = {"emrId": patient.actor.emr_id, "patient": stack.patient_resource()}
    held = KeyHolder(stack, cast.healthcenter, clerk.sign)
    if how == "prepared by one whose key the hospital keeps":
        return await held.prepare("registration", "UpdateDemographics", **body)
    if how == "prepared by another role":
        return await patient.prepare("registration", "UpdateDemographics", **body)
    if how == "the operation itself called without a signature":
        return await stack.call(patient.actor, "consent", "GET", "/me/sharings")
    prepared = (await clerk.prepare("registration", "UpdateDemographics", **body)).required()
    signed = base64.b64decode(prepared["bytes"])
    match how:
        case "a signature of another key":
            foreign = crypto.sign(crypto.new_private_key(), signed)
            return await clerk.step("registration", "endorse", prepared, foreign)
        case "a signature over other bytes":
            return await clerk.step("registration", "endorse", prepared, clerk.sign(signed + b"\x00"))
        case "no signature at all":
            return await clerk.step("registration", "endorse", prepared, b"none")
        case "another caller":
            return await held.step("registration", "endorse", prepared)
        case "another service":
            return await clerk.step("records", "endorse", prepared)
        case "submitted before it was endorsed":
            return await clerk.step("registration", "submit", prepared)
        case "a write that is evaluated":
            return await clerk.step("registration", "evaluate", prepared)
        case "endorsed after four minutes":
            await _age(stack, prepared, timedelta(minutes=4))
            return await clerk.step("registration", "endorse", prepared)
    endorsed = (await clerk.step("registration", "endorse", prepared)).required()
    if how == "the signature of the step before":
        return await clerk.step("registration", "submit", endorsed, clerk.sign(signed))
    assert how == "submitted after ten minutes"
    await _age(stack, endorsed, timedelta(minutes=10))
    assert (await _state(stack, clerk, endorsed)) == "void"
    return await clerk.step("registration", "submit", endorsed)


async def test_a_step_in_its_time_is_taken(stack: Stack, clerk: KeyHolder, patient: KeyHolder) -> None:
    """Endorsed after three and a half of its four minutes, handed in after nine of its ten."""
    prepared = await _update_of(stack, clerk, patient)
    await _age(stack, prepared, timedelta(minutes=3, seconds=30))
    endorsed = (await clerk.step("registration", "endorse", prepared)).required()
    await _age(stack, endorsed, timedelta(minutes=5, seconds=30))
    assert (await _state(stack, clerk, endorsed)) == "endorsed"
    assert (await clerk.step("registration", "submit", endorsed)).status == 200


@pytest.mark.timeout(1200)
@pytest.mark.skipif("WAITING" not in os.environ, reason="waits for ten minutes (make waiting)")
async def test_what_was_left_lying_is_void(stack: Stack, clerk: KeyHolder, patient: KeyHolder) -> None:
    """The four and the ten minutes themselves, and no clock or row changed."""
    lying, signed = await _update_of(stack, clerk, patient), await _update_of(stack, clerk, patient)
    endorsed = (await clerk.step("registration", "endorse", signed)).required()
    await asyncio.sleep(ENDORSE_WITHIN.total_seconds())
    assert (await clerk.step("registration", "endorse", lying)).code == "PREPARATION_EXPIRED"
    assert [await _state(stack, clerk, one) for one in (lying, endorsed)] == ["void", "endorsed"]
    await asyncio.sleep((SUBMIT_WITHIN - ENDORSE_WITHIN).total_seconds())
    assert (await clerk.step("registration", "submit", endorsed)).code == "PREPARATION_EXPIRED"
    assert await _state(stack, clerk, endorsed) == "void"
    assert (await _submitted_of(stack, clerk, endorsed)) == []


async def _update_of(stack: Stack, clerk: KeyHolder, patient: KeyHolder) -> dict[str, Any]:
    body: dict[str, Any] = {"emrId": patient.actor.emr_id, "patient": stack.patient_resource()}
    return (await clerk.prepare("registration", "UpdateDemographics", **body)).required()


async def _submitted_of(stack: Stack, holder: KeyHolder, document: dict[str, Any]) -> list[Any]:
    query = "select 1 from hospital.transaction where caller = $1 and transaction_id = $2"
    return list(await stack.sql("a", query, holder.actor.enrolment_id, document["transactionId"]))


async def _age(stack: Stack, document: dict[str, Any], by: timedelta) -> None:
    change = "update hospital.preparation set prepared_at = prepared_at - $2::interval where transaction_id = $1"
    await stack.sql("a", change, document["transactionId"], by)


async def _state(stack: Stack, holder: KeyHolder, document: dict[str, Any]) -> str:
    path = f"/transactions/{document['transactionId']}"
    return str((await stack.call(holder.actor, "consent", "GET", path)).required()["state"])


BAD_REQUESTS = {
    "no request": "certificate",
    "another role's name": request_of("physician", crypto.new_private_key()),
    "a name that tells something": request_of("h", crypto.new_private_key(), "h-anna-moreno"),
}


@pytest.mark.parametrize("what", BAD_REQUESTS)
async def test_a_certificate_request_is_refused(stack: Stack, what: str) -> None:
    body = {"subject": secrets.token_hex(4), "role": "healthcenter", "certificateRequest": BAD_REQUESTS[what]}
    answer = await stack.call_as("a", "admin", "registration", "POST", "/staff", body)
    assert (answer.status, answer.code) == (422, "CERTIFICATE_REQUEST_INVALID")


async def test_a_common_name_is_used_once(stack: Stack) -> None:
    request = request_of("healthcenter", crypto.new_private_key())
    bodies = [{"subject": secrets.token_hex(4), "role": "healthcenter", "certificateRequest": request} for _ in "12"]
    first, again = [await stack.call_as("a", "admin", "registration", "POST", "/staff", body) for body in bodies]
    assert (first.status, again.status, again.code) == (201, 422, "CERTIFICATE_REQUEST_INVALID")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
async def test_the_openssl_command_alone_signs(stack: Stack, patient: KeyHolder, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    name = f"p-{secrets.token_hex(8)}"
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    request = _openssl("req", "-new", "-key", str(key), "-sha256", "-subj", f"/CN={name}").decode()

    def sign(signed: bytes) -> bytes:
        return _openssl("dgst", "-sha256", "-sign", str(key), stdin=signed)

    physician = await KeyHolder.enrolled(stack, "a", "physician", request, sign)
    for number in range(3):  # half of OpenSSL's signatures have the larger s
        answer = await physician.write(
            "records", "AddEmrNote", emrId=patient.actor.emr_id, note={"text": f"Note {number}."}
        )
        assert answer.status == 200, answer.body


def _openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


async def test_emr_sign_shows_what_is_signed_and_signs_it(
    stack: Stack, physician: KeyHolder, patient: KeyHolder, tmp_path: Path
) -> None:
    key = crypto.new_private_key()
    (tmp_path / "key.pem").write_bytes(crypto.private_key_to_pem(key))
    holder = await KeyHolder.enrolled(
        stack, "a", "physician", request_of("physician", key), lambda b: crypto.sign(key, b)
    )
    note: dict[str, Any] = {"emrId": patient.actor.emr_id, "note": {"text": "Signed by hand."}}
    prepared = (await holder.prepare("records", "AddEmrNote", **note)).required()
    first = await _emr_sign(tmp_path, "prepared.json", prepared)
    assert first.returncode == 0, first.stderr
    ids = (patient.actor.emr_id, holder.actor.enrolment_id, prepared["transactionId"])
    for shown in ("AddEmrNote", "expectedVersion  ", "care", *ids):
        assert shown in first.stderr
    assert "Signed by hand." not in first.stderr
    endorsed = (await holder.step("records", "endorse", prepared, base64.b64decode(first.stdout))).required()
    second = await _emr_sign(tmp_path, "endorsed.json", endorsed, "--proposal", str(tmp_path / "prepared.json"))
    assert f"{stack.msp_id('a')}, {stack.msp_id('b')}" in second.stderr
    assert (await holder.step("records", "submit", endorsed, base64.b64decode(second.stdout))).status == 200

    others = (await physician.prepare("records", "AddEmrNote", **note)).required()
    assert (await _emr_sign(tmp_path, "others.json", others)).returncode == 1
    forged = {**prepared, "digest": "0" * 64}
    assert "digest" in (await _emr_sign(tmp_path, "forged.json", forged)).stderr
    third = (await holder.prepare("records", "AddEmrNote", **note)).required()
    (tmp_path / "third.json").write_text(json.dumps(third))
    other_one = await _emr_sign(tmp_path, "endorsed.json", endorsed, "--proposal", str(tmp_path / "third.json"))
    assert "not the one that was proposed" in other_one.stderr


async def _emr_sign(
    folder: Path, name: str, document: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(json.dumps(document))
    command = [sys.executable, "-m", "emr_deploy.cli", "sign", str(folder / name), "--key", str(folder / "key.pem")]
    return await asyncio.to_thread(
        subprocess.run, [*command, "--yes", *options], capture_output=True, text=True, check=False
    )


async def test_a_rebound_key_counts_a_day_later_and_the_old_one_until_then(
    stack: Stack, clerk: KeyHolder, cast: Cast
) -> None:
    patient = await admitted(stack, clerk)
    emr_id, key = patient.actor.emr_id, crypto.new_private_key()
    path, request = f"/emrs/{emr_id}/patient-key", request_of("patient", key)
    rebound = (
        await stack.call(cast.healthcenter, "registration", "PUT", path, {"certificateRequest": request})
    ).required()
    counts_from = datetime.fromisoformat(rebound["countsFrom"])
    assert timedelta(hours=23) < counts_from - datetime.now(UTC) <= timedelta(hours=24)
    assert (await patient.read("records", "GetOwnEmr")).status == 200
    following = KeyHolder(stack, patient.actor, lambda signed: crypto.sign(key, signed))
    assert (await following.read("records", "GetOwnEmr")).code == "SIGNATURE_INVALID"

    # A day later here, and not yet for the hospitals' peers: it is they who decide.
    await stack.sql("a", "update hospital.patient_key set counts_from = now() where emr_id = $1", emr_id)
    me = (await stack.call(patient.actor, "registration", "GET", "/me")).required()
    assert me["enrolmentId"] == rebound["enrolmentId"]
    assert (await following.read("records", "GetOwnEmr")).code == "PATIENT_KEY_NOT_BOUND"


async def test_demographics_are_replaced_and_the_patient_recognized_by_them(stack: Stack, cast: Cast) -> None:
    one, other = [await Steps.begin(stack, cast, notes=0) for _ in "12"]
    resource = stack.patient_resource(birthDate="1980-01-01")
    path = f"/emrs/{one.patient.emr_id}/demographics"

    async def put(body: dict[str, Any], where: str = path) -> Answer:
        return await stack.call(cast.healthcenter, "registration", "PUT", where, body)

    assert (await put({"patient": resource})).required()["revision"] == 2
    assert (await one.read())["demographics"]["birthDate"] == "1980-01-01"
    stale = await put({"patient": resource, "expectedRevision": 1})
    assert (stale.status, stale.code, stale.body["version"]) == (412, "VERSION_CONFLICT", 2)
    identifier = resource["identifier"][0]
    found = await stack.call(cast.healthcenter, "registration", "POST", "/patients/lookup", {"identifier": identifier})
    assert found.body["emrId"] == one.patient.emr_id
    taken = await put({"patient": resource}, f"/emrs/{other.patient.emr_id}/demographics")
    assert (taken.status, taken.code) == (409, "PATIENT_ALREADY_REGISTERED")
    by_physician = await stack.call(cast.physician, "registration", "PUT", path, {"patient": resource})
    assert by_physician.code == "ROLE_NOT_ALLOWED"
    unknown = await put({"patient": stack.patient_resource()}, f"/emrs/{'0' * 32}/demographics")
    assert unknown.code == "EMR_NOT_FOUND"
