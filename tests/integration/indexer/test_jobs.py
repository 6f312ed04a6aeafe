"""Rebuilding, verifying and replaying on the running system, by the indexer's API and the services' own roles."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.stack import Actor, Stack


async def _ask(stack: Stack, admin: Actor, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The job, once it has ended."""
    accepted = await stack.call(admin, "indexer", "POST", path, body or {})
    assert accepted.status == 202, accepted.body
    assert accepted.headers["Location"] == f"/v1/jobs/{accepted.body['jobId']}"
    job: dict[str, Any] = {}

    async def ended() -> bool:
        nonlocal job
        job = (await stack.call(admin, "indexer", "GET", f"/jobs/{accepted.body['jobId']}")).required()
        return job["state"] in ("done", "failed")

    await stack.until(ended, f"{path} ends", 90)
    return job


async def test_a_rebuild_serves_throughout_and_leaves_what_the_ledger_says(stack: Stack) -> None:
    admin, healthcenter = await stack.staff("a", "admin"), await stack.staff("a", "healthcenter")
    physician = await stack.staff("a", "physician")
    patient = await stack.patient(healthcenter, stack.patient_resource(name=[{"family": "Rebuilt", "given": ["Iris"]}]))
    await stack.add_note(physician, patient.emr_id)
    await stack.wait_for_rows("a")
    await stack.sql("a", "delete from care.note where emr_id = $1", patient.emr_id)
    rebuilding = asyncio.create_task(_ask(stack, admin, "/rebuilds"))
    searches, added = 0, 0
    while not rebuilding.done():
        answer = await stack.call(physician, "records", "POST", "/emrs/search", {"familyName": "Rebuilt"})
        assert [hit["emrId"] for hit in answer.required()["emrs"]] == [patient.emr_id]
        searches += 1
        if added < 3:
            added += 1
            await stack.add_note(physician, patient.emr_id)
    job = await rebuilding
    assert (job["state"], job["result"]["parked"]) == ("done", 0), job
    assert searches > 0
    added_after = await stack.add_note(physician, patient.emr_id)
    await stack.wait_for_rows("a", added_after["block"])
    found = await stack.sql("a", "select version from care.note where emr_id = $1 order by 1", patient.emr_id)
    assert [row["version"] for row in found] == list(range(1, added + 3))
    verified = await _ask(stack, admin, "/verifications")
    assert verified["state"] == "done", verified
    assert (verified["result"]["found"], verified["result"]["differences"]) == (0, [])


async def test_a_verification_names_a_row_that_was_changed(stack: Stack) -> None:
    admin, healthcenter = await stack.staff("a", "admin"), await stack.staff("a", "healthcenter")
    patient = await stack.patient(healthcenter)
    await stack.wait_for_rows("a")
    change = "update care.emr set birth_date = '1900-01-01' where emr_id = $1"
    await stack.sql("a", change, patient.emr_id)
    result = (await _ask(stack, admin, "/verifications"))["result"]
    assert result["differences"] == [
        {"table": "emr", "key": {"emr_id": patient.emr_id}, "wrong": "different", "columns": ["birth_date"]}
    ]
    await stack.sql("a", "update care.emr set birth_date = '1975-04-02' where emr_id = $1", patient.emr_id)


async def test_an_erasure_is_proved(stack: Stack) -> None:
    admin, healthcenter = await stack.staff("a", "admin"), await stack.staff("a", "healthcenter")
    physician = await stack.staff("a", "physician")
    patient = await stack.patient(healthcenter)
    await stack.add_note(physician, patient.emr_id)
    not_yet = await _ask(stack, admin, "/verifications", {"erased": True, "emrId": patient.emr_id})
    assert (not_yet["state"], not_yet["code"]) == ("failed", "NOT_ERASED")
    (await stack.call(patient, "registration", "POST", "/me/erasure-request", {})).required()
    (await stack.call(healthcenter, "registration", "DELETE", f"/emrs/{patient.emr_id}")).required()
    await stack.wait_for_rows("a")
    proof = await _ask(stack, admin, "/verifications", {"erased": True, "emrId": patient.emr_id})
    assert proof["state"] == "done", proof
    assert proof["result"]["differences"] == []
    assert (proof["result"]["emrs"], proof["result"]["sealedRecords"]) == (1, 2)
    await stack.sql("a", "insert into care.pseudonym values ($1, 2020, $1)", patient.emr_id)
    spoiled = await _ask(stack, admin, "/verifications", {"erased": True})
    assert spoiled["result"]["differences"] == [{"emrId": patient.emr_id, "where": "rows", "what": "care.pseudonym"}]
    await stack.sql("a", "delete from care.pseudonym where emr_id = $1", patient.emr_id)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/dead-letters/care/9/9/9/replay", {}, 404, "NOT_FOUND"),
        ("GET", "/jobs/none", None, 404, "NOT_FOUND"),
        ("POST", "/verifications", {"emrId": "x"}, 422, "VALIDATION_FAILED"),
        ("POST", "/verifications", {"elsewhere": 1}, 422, "VALIDATION_FAILED"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    stack: Stack, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = await stack.call(await stack.staff("a", "admin"), "indexer", method, path, body)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("path", ["/rebuilds", "/verifications", "/dead-letters/care/1/0/0/replay"])
async def test_only_administrators_give_jobs(stack: Stack, path: str) -> None:
    answer = await stack.call(await stack.staff("a", "physician"), "indexer", "POST", path, {})
    assert (answer.status, answer.code) == (403, "ROLE_NOT_ALLOWED")
