"""The indexer's API on the running system: what it says of lag and dead letters, and to whom."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from support.stack import Actor, Stack


async def _position(stack: Stack, admin: Actor, **params: Any) -> dict[str, Any]:
    return (await stack.call(admin, "indexer", "GET", "/position", params=params)).required()


async def test_the_lag_is_told_while_the_projector_is_down(stack: Stack) -> None:
    admin, healthcenter = await stack.staff("a", "admin"), await stack.staff("a", "healthcenter")
    physician = await stack.staff("a", "physician")
    patient = await stack.patient(healthcenter)
    await stack.wait_for_rows("a")
    before = await _position(stack, admin)
    assert before["lagBlocks"] == 0
    assert {each["block"] for each in before["partitions"]} == {before["ledgerBlock"]}
    async with stack.stopped("projector-a"):
        added = await stack.add_note(physician, patient.emr_id)
        during = await _position(stack, admin)
        assert (during["lagBlocks"], during["ledgerBlock"]) == (1, added["block"])
        assert during["as_of_block"] == added["block"] - 1
        assert await stack.sql("a", "select 1 from care.note where emr_id = $1", patient.emr_id) == []
    after = await _position(stack, admin, min_block=added["block"])
    assert (after["lagBlocks"], after["as_of_block"]) == (0, added["block"])
    (note,) = await stack.sql("a", "select * from care.note where emr_id = $1", patient.emr_id)
    assert (note["kind"], note["block"], note["transaction_id"]) == ("text", added["block"], added["transactionId"])


async def test_a_row_says_what_the_ledger_says(stack: Stack) -> None:
    healthcenter, physician = await stack.staff("a", "healthcenter"), await stack.staff("a", "physician")
    patient = await stack.patient(healthcenter, stack.patient_resource(gender="other", birthDate="1999-12"))
    added = await stack.add_note(physician, patient.emr_id)
    await stack.wait_for_rows("a", added["block"])
    (emr,) = await stack.sql("a", "select * from care.emr where emr_id = $1", patient.emr_id)
    assert (emr["patient_id"], emr["owner_msp"], emr["version"], emr["life"]) == (
        patient.patient_id,
        stack.msp_id("a"),
        1,
        "active",
    )
    assert (emr["sex"], emr["birth_date"].isoformat(), emr["family_name"]) == ("other", "1999-12-01", "Moreno")
    await stack.wait_for_rows("b", added["block"])
    (elsewhere,) = await stack.sql("b", "select * from care.emr where emr_id = $1", patient.emr_id)
    assert (elsewhere["version"], elsewhere["demographics"], elsewhere["family_name"]) == (1, None, None)
    assert await stack.sql("b", "select 1 from care.note where emr_id = $1", patient.emr_id) == []


async def test_nothing_of_the_ledger_is_unbelieved(stack: Stack) -> None:
    admin = await stack.staff("a", "admin")
    answer = (await stack.call(admin, "indexer", "GET", "/dead-letters")).required()
    assert answer["deadLetters"] == []
    assert answer["next"] is None


@pytest.mark.parametrize("role", ["physician", "healthcenter"])
@pytest.mark.parametrize("path", ["/position", "/dead-letters"])
async def test_only_administrators_are_answered(stack: Stack, role: str, path: str) -> None:
    answer = await stack.call(await stack.staff("a", role), "indexer", "GET", path)
    assert (answer.status, answer.body["code"]) == (403, "ROLE_NOT_ALLOWED")


async def test_anybody_sees_the_published_numbers_and_nothing_else(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url("indexer", "a"), trust_env=False) as client:
        page = await client.get("/v1/numbers")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        named = re.findall(r'href="(numbers/[^"]+)"', page.text)
        assert [(await client.get(f"/v1/{path}")).status_code for path in named] == [200, 200]
        for path in ("/v1/numbers/", "/v1/numbers/elsewhere", "/v1/position", "/v1/jobs/numbers"):
            assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("/position", {"min_block": 10**9}, 400, "BLOCK_UNKNOWN"),
        ("/position", {"min_block": "x"}, 422, "VALIDATION_FAILED"),
        ("/dead-letters", {"limit": 0}, 422, "VALIDATION_FAILED"),
        ("/dead-letters", {"after": "nonsense"}, 400, "MALFORMED_REQUEST"),
        ("/jobs/%00", {}, 422, "VALIDATION_FAILED"),
        ("/elsewhere", {}, 404, "NOT_FOUND"),
    ],
)
async def test_bad_input_is_told_so(stack: Stack, path: str, params: dict[str, Any], status: int, code: str) -> None:
    answer = await stack.call(await stack.staff("a", "admin"), "indexer", "GET", path, params=params)
    assert (answer.status, answer.body["code"]) == (status, code)


@pytest.mark.parametrize("process", ["relay", "projector", "indexer"])
async def test_every_process_says_how_it_is(stack: Stack, process: str) -> None:
    async with httpx.AsyncClient(base_url=stack.url(process, "a")) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json()["status"] == "ready"
        metrics = (await client.get("/metrics")).text
    assert f"emr_{process}_" in metrics


async def test_a_relay_that_is_killed_goes_on_where_kafka_is(stack: Stack) -> None:
    healthcenter, physician = await stack.staff("a", "healthcenter"), await stack.staff("a", "physician")
    patient = await stack.patient(healthcenter)
    for _ in range(3):
        await stack.add_note(physician, patient.emr_id)
        await stack.kill("relay-a")
    added = await stack.add_note(physician, patient.emr_id)
    await stack.wait_for_rows("a", added["block"])
    rows = await stack.sql("a", "select version from care.note where emr_id = $1 order by 1", patient.emr_id)
    assert [row["version"] for row in rows] == [1, 2, 3, 4]


async def test_a_relay_without_its_peer_says_so(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url("relay", "b")) as client:

        async def peer_is(state: str) -> bool:
            return bool((await client.get("/readyz")).json()["checks"]["peer"] == state)

        async with stack.peer_stopped("b"):
            await stack.until(lambda: peer_is("failing"), "the relay misses its peer")
        await stack.until(lambda: peer_is("ok"), "the relay has its peer again")
    await stack.wait_for_rows("b")
