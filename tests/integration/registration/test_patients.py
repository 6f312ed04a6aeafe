"""Registering patients, on the whole system."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from emr_common.problems import OutcomePending, Problem
from emr_deploy.callers import Unreachable
from emr_model.ledger.codes import Code
from emr_registration import admission
from support.registration_instance import Instance, registration_instance, unique
from support.stack import Actor, Stack

CANARY = "canary-3e90"
TRACES = {
    "patient_identifier": "select count(*) from hospital.patient_identifier where emr_id = any($1)",
    "emr_key": "select count(*) from hospital.emr_key where emr_id = any($1)",
    "wallet": "select count(*) from hospital.wallet where emr_id = any($1)",
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def healthcenter(stack: Stack) -> Actor:
    return await stack.staff("a", "healthcenter")


@pytest.fixture
async def instance(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Instance]:
    async with registration_instance(stack, "a", monkeypatch) as running:
        yield running


async def totals(stack: Stack) -> dict[str, int]:
    """How many patients the hospital's own tables know of."""
    counts = {}
    for name, query in TRACES.items():
        everything = query.replace("emr_id = any($1)", "emr_id is not null")
        counts[name] = int((await stack.sql("a", everything))[0]["count"])
    return counts


async def traces_of(stack: Stack, emr_id: str) -> dict[str, int]:
    return {name: int((await stack.sql("a", query, [emr_id]))[0]["count"]) for name, query in TRACES.items()}


async def post(stack: Stack, actor: Actor, body: Any, key: str | None = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await stack.call(actor, "registration", "POST", "/patients", body, headers=headers)


async def test_a_registered_patient_has_ids_an_identity_and_a_key(stack: Stack, healthcenter: Actor) -> None:
    subject = unique("patient")
    answer = await post(stack, healthcenter, {"subject": subject, "patient": stack.patient_resource()})
    assert answer.status == 201
    assert answer.body.keys() == {"patientId", "emrId", "enrolmentId", "transactionId", "block"}
    patient = Actor("a", subject, "patient", answer.body["enrolmentId"])
    me = (await stack.call(patient, "registration", "GET", "/me")).required()
    assert "BEGIN CERTIFICATE" in me.pop("certificate")
    assert me == {
        "keepsKey": False,
        "enrolmentId": answer.body["enrolmentId"],
        "role": "patient",
        "ownerMsp": "HospitalA",
        "patientId": answer.body["patientId"],
        "emrId": answer.body["emrId"],
    }
    assert await traces_of(stack, answer.body["emrId"]) == dict.fromkeys(TRACES, 1)


async def test_a_patient_is_found_by_an_identifier_and_by_id(stack: Stack, healthcenter: Actor) -> None:
    resource = stack.patient_resource()
    patient = await stack.patient(healthcenter, resource)
    known = resource["identifier"][0]
    written_otherwise = {"system": known["system"], "value": f"  {known['value']} "}
    for body in ({"identifier": known}, {"identifier": written_otherwise}, {"patientId": patient.patient_id}):
        found = await stack.call(healthcenter, "registration", "POST", "/patients/lookup", body)
        assert found.required() == {"patientId": patient.patient_id, "emrId": patient.emr_id}
    for body in ({"identifier": {**known, "value": "unknown"}}, {"patientId": "0" * 32}):
        answer = await stack.call(healthcenter, "registration", "POST", "/patients/lookup", body)
        assert answer.code == "PATIENT_NOT_REGISTERED"


async def test_the_same_idempotency_key_registers_once(stack: Stack, healthcenter: Actor) -> None:
    body = {"subject": unique("patient"), "patient": stack.patient_resource()}
    key = secrets.token_hex(8)
    answers = await asyncio.gather(*(post(stack, healthcenter, body, key) for _ in range(8)))
    assert {answer.status for answer in answers} == {201}
    assert len({json.dumps(answer.body, sort_keys=True) for answer in answers}) == 1


async def test_a_person_is_registered_once_however_many_try(stack: Stack, healthcenter: Actor) -> None:
    resource, before = stack.patient_resource(), await totals(stack)
    bodies = [{"subject": unique("patient"), "patient": resource} for _ in range(6)]
    answers = await asyncio.gather(*(post(stack, healthcenter, body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert {answer.code for answer in answers} <= {None, "CONFLICT", "PATIENT_ALREADY_REGISTERED"}
    again = await post(stack, healthcenter, {"subject": unique("patient"), "patient": resource})
    assert again.code == "PATIENT_ALREADY_REGISTERED"
    assert await totals(stack) == {name: count + 1 for name, count in before.items()}


async def test_a_subject_that_is_enrolled_cannot_be_another_patient(stack: Stack, healthcenter: Actor) -> None:
    patient, before = await stack.patient(healthcenter), await totals(stack)
    body = {"subject": patient.subject, "patient": stack.patient_resource()}
    assert (await post(stack, healthcenter, body)).code == "SUBJECT_ALREADY_ENROLLED"
    assert await totals(stack) == before


def changed(stack: Stack, **members: Any) -> bytes:
    return json.dumps({"subject": "s", "patient": stack.patient_resource(**members)}).encode()


BAD_INPUT: dict[str, tuple[Any, Code]] = {
    "no identifier": ({"identifier": []}, Code.VALIDATION_FAILED),
    "an identifier of another system": (
        {"identifier": [{"system": f"urn:{CANARY}", "value": CANARY}]},
        Code.VALIDATION_FAILED,
    ),
    "an unknown field": ({CANARY: CANARY}, Code.VALIDATION_FAILED),
    "a date that is none": ({"birthDate": CANARY}, Code.VALIDATION_FAILED),
    "another resource": ({"resourceType": "Observation", "status": CANARY}, Code.VALIDATION_FAILED),
    "too large": ({"text": {"status": "generated", "div": CANARY * 40_000}}, Code.VALIDATION_FAILED),
    "over the body's limit": ({"text": {"status": "generated", "div": CANARY * 100_000}}, Code.CONTENT_TOO_LARGE),
    "a lone surrogate": ({"name": [{"family": "\ud800"}]}, Code.MALFORMED_REQUEST),
}


@pytest.mark.parametrize("name", BAD_INPUT)
async def test_a_patient_is_refused_with_nothing_left_behind_that_has(
    stack: Stack, healthcenter: Actor, name: str
) -> None:
    members, code = BAD_INPUT[name]
    before = await totals(stack)
    answer = await post(stack, healthcenter, changed(stack, **members))
    assert answer.code == code.name
    assert CANARY not in json.dumps(answer.body)
    assert await totals(stack) == before


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.MALFORMED_REQUEST),
        (b"{", Code.MALFORMED_REQUEST),
        (b"[]", Code.MALFORMED_REQUEST),
        (b'{"subject":"s"}', Code.VALIDATION_FAILED),
        (b'{"subject":"","patient":{}}', Code.VALIDATION_FAILED),
        (b'{"subject":"s","patient":{},"canary-3e90":1}', Code.VALIDATION_FAILED),
        (b'{"subject":"s","patient":{},"patient":{}}', Code.MALFORMED_REQUEST),
    ],
)
async def test_a_body_is_refused_that_is(stack: Stack, healthcenter: Actor, body: bytes, code: Code) -> None:
    answer = await post(stack, healthcenter, body)
    assert answer.code == code.name
    assert CANARY not in json.dumps(answer.body)


@pytest.mark.parametrize("role", ["physician", "admin", "patient"])
async def test_only_a_healthcenter_registers(stack: Stack, healthcenter: Actor, role: str) -> None:
    actor = await (stack.patient(healthcenter) if role == "patient" else stack.staff("a", role))
    answer = await post(stack, actor, {"subject": unique("patient"), "patient": stack.patient_resource()})
    assert answer.code == "ROLE_NOT_ALLOWED"


async def test_without_the_other_hospital_nothing_is_left_and_it_is_named(stack: Stack, healthcenter: Actor) -> None:
    body, key = {"subject": unique("patient"), "patient": stack.patient_resource()}, secrets.token_hex(8)
    before = await totals(stack)
    async with stack.peer_stopped("b"):
        answer = await post(stack, healthcenter, body, key)
        assert (answer.status, answer.code) == (503, "HOSPITAL_UNAVAILABLE")
        assert answer.body["hospital"] == "HospitalB"
        assert "retry-after" in answer.headers
        assert await totals(stack) == before
    again = await post(stack, healthcenter, body, key)
    assert again.status == 201, again.body


class Killed(BaseException):
    """The end of the process, as seen from inside: nothing after it runs."""


def dies(*_: Any, **__: Any) -> Any:
    raise Killed


CRASHES = {
    "after the ids were reserved": ("_store", "content_key"),
    "after the key was stored": ("_enrolment", "of_patient"),
    "after the identity was stored": ("_ledger", "perform"),
}


@pytest.mark.parametrize("when", CRASHES)
async def test_a_crash_leaves_what_the_next_attempt_goes_on_with(
    stack: Stack, healthcenter: Actor, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    part, method = CRASHES[when]
    subject, resource, key = unique("patient"), stack.patient_resource(), secrets.token_hex(8)
    before = await totals(stack)
    async with registration_instance(stack, "a", monkeypatch) as instance:
        monkeypatch.setattr(getattr(instance.services.admission, part), method, dies)
        with pytest.raises(Killed):
            await instance.post_patient(healthcenter, subject, resource, key)
    answer = await post(stack, healthcenter, {"subject": subject, "patient": resource}, key)
    assert answer.status == 201, answer.body
    assert await traces_of(stack, answer.body["emrId"]) == dict.fromkeys(TRACES, 1)
    assert await totals(stack) == {name: count + 1 for name, count in before.items()}


async def test_a_lost_outcome_is_found_again_under_the_same_key(
    stack: Stack, healthcenter: Actor, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, resource, key = unique("patient"), stack.patient_resource(), secrets.token_hex(8)
    ledger = instance.services.ledger
    perform = ledger.perform

    async def submits_and_does_not_learn(*arguments: Any, **options: Any) -> Any:
        committed = await perform(*arguments, **options)
        raise OutcomePending(committed.transaction_id)

    monkeypatch.setattr(ledger, "perform", submits_and_does_not_learn)
    pending = await instance.post_patient(healthcenter, subject, resource, key)
    assert pending.status_code == 202
    answer = await post(stack, healthcenter, {"subject": subject, "patient": resource}, key)
    assert answer.status == 201
    assert pending.headers["location"] == f"/v1/transactions/{answer.body['transactionId']}"
    state = await stack.call(healthcenter, "registration", "GET", pending.headers["location"].removeprefix("/v1"))
    assert state.body["state"] == "committed"
    assert await traces_of(stack, answer.body["emrId"]) == dict.fromkeys(TRACES, 1)


async def test_another_request_takes_over_what_a_dead_one_left(
    stack: Stack, healthcenter: Actor, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, resource = unique("patient"), stack.patient_resource()
    with monkeypatch.context() as dying:
        dying.setattr(instance.services.ledger, "perform", dies)
        with pytest.raises(Killed):
            await instance.post_patient(healthcenter, subject, resource, secrets.token_hex(8))
    too_early = await instance.post_patient(healthcenter, subject, resource, secrets.token_hex(8))
    assert too_early.json()["code"] == "CONFLICT"
    monkeypatch.setattr(admission, "ANOTHER_ATTEMPT_MAY_RUN", timedelta(0))
    taken_over = await instance.post_patient(healthcenter, subject, resource, secrets.token_hex(8))
    assert taken_over.status_code == 201
    assert await traces_of(stack, taken_over.json()["emrId"]) == dict.fromkeys(TRACES, 1)


async def test_a_failed_take_over_takes_nothing_back(
    stack: Stack, healthcenter: Actor, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first transaction may commit at any time: its EMR's key must not be destroyed by who comes second."""
    subject, resource, key = unique("patient"), stack.patient_resource(), secrets.token_hex(8)
    ledger = instance.services.ledger

    async def refused(*_: Any, **__: Any) -> Any:
        raise Problem(Code.CONFLICT)

    with monkeypatch.context() as dying:
        dying.setattr(ledger, "perform", dies)
        with pytest.raises(Killed):
            await instance.post_patient(healthcenter, subject, resource, key)
    row = await stack.sql("a", "select emr_id from hospital.patient_identifier order by created_at desc limit 1")
    with monkeypatch.context() as refusing:
        refusing.setattr(ledger, "perform", refused)
        answer: httpx.Response = await instance.post_patient(healthcenter, subject, resource, key)
        assert answer.json()["code"] == "CONFLICT"
    assert await traces_of(stack, row[0]["emr_id"]) == dict.fromkeys(TRACES, 1)


async def test_nothing_of_the_patient_is_kept_in_the_clear(stack: Stack, healthcenter: Actor) -> None:
    body = {"subject": unique("patient"), "patient": stack.patient_resource(name=[{"family": CANARY}])}
    assert (await post(stack, healthcenter, body)).status == 201
    for table in ("idempotency", "transaction", "patient_identifier", "wallet", "emr_key"):
        rows = await stack.sql("a", f"select t::text as row from hospital.{table} t")
        text = "\n".join(row["row"] for row in rows)
        assert CANARY not in text
        assert CANARY.encode().hex() not in text
    assert CANARY not in stack.log("registration-a").read_text()


async def test_without_the_certificate_authority_nothing_is_left(stack: Stack, healthcenter: Actor) -> None:
    body, before = {"subject": unique("patient"), "patient": stack.patient_resource()}, await totals(stack)
    async with stack.stopped("ca"):
        assert (await post(stack, healthcenter, body)).code == "CA_UNAVAILABLE"
    assert await totals(stack) == before
    assert (await post(stack, healthcenter, body)).status == 201


async def test_a_kill_under_load_loses_and_doubles_nobody(stack: Stack, healthcenter: Actor) -> None:
    before = await totals(stack)

    async def register_patiently() -> str:
        body, key = {"subject": unique("patient"), "patient": stack.patient_resource()}, secrets.token_hex(8)
        async with asyncio.timeout(120):
            while True:
                try:
                    answer = await post(stack, healthcenter, body, key)
                    if answer.status == 201:
                        return str(answer.body["emrId"])
                    assert answer.status in {202, 409, 503}, answer.body
                except Unreachable:
                    pass
                await asyncio.sleep(0.2)

    registering = [asyncio.create_task(register_patiently()) for _ in range(12)]
    await asyncio.sleep(0.3)
    await stack.kill("registration-a")
    emr_ids = await asyncio.gather(*registering)
    assert len(set(emr_ids)) == 12
    assert await totals(stack) == {name: count + 12 for name, count in before.items()}
