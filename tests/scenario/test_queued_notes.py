"""When another hospital is down: who is missing is named at once, and whoever prefers to may leave a note waiting."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import Any

from emr_deploy.callers import Answer
from support.sharing_steps import Cast, Steps
from support.stack import Stack

ASYNC = {"Prefer": "respond-async"}


async def queue(steps: Steps, text: str, **headers: str) -> Answer:
    return await steps.post_note(text, headers={**ASYNC, **{k.replace("_", "-"): v for k, v in headers.items()}})


async def state(steps: Steps, accepted: Answer) -> dict[str, Any]:
    path = accepted.headers["location"].removeprefix("/v1")
    return (await steps.stack.call(steps.cast.physician, "records", "GET", path)).required()


async def ended(steps: Steps, accepted: Answer) -> dict[str, Any]:
    async def has_ended() -> bool:
        return (await state(steps, accepted))["state"] in ("committed", "refused")

    await steps.stack.until(has_ended, "the queued note is committed or refused", 60)
    return await state(steps, accepted)


async def texts(steps: Steps) -> list[str]:
    path = f"/emrs/{steps.patient.emr_id}/notes"
    notes = (await steps.stack.call(steps.cast.physician, "records", "GET", path)).required()["notes"]
    return [str(note["content"]) for note in notes]


async def test_notes_wait_in_order_and_survive_a_kill_while_another_hospital_is_down(stack: Stack, cast: Cast) -> None:
    steps = await Steps.begin(stack, cast, notes=1)
    marks = [f"mark-{secrets.token_hex(6)}" for _ in range(3)]
    async with stack.peer_stopped("b"):
        refused = await steps.post_note("Now or never.")
        assert (refused.status, refused.code, refused.body["hospital"]) == (503, "HOSPITAL_UNAVAILABLE", "HospitalB")
        accepted = [await queue(steps, mark) for mark in marks]
        assert [one.status for one in accepted] == [202] * 3
        assert {(await state(steps, one))["state"] for one in accepted} == {"queued"}
        rows = await stack.sql("a", "select q::text as row from hospital.queued_note q")
        assert not any(mark.encode().hex() in row["row"] or mark in row["row"] for mark in marks for row in rows)
        await stack.kill("records-a")
    await stack.ready("records-a")
    told = [await ended(steps, one) for one in accepted]
    assert [(one["state"], one["version"]) for one in told] == [("committed", 2), ("committed", 3), ("committed", 4)]
    assert all(isinstance(one["block"], int) and len(one["transactionId"]) == 64 for one in told)
    found = (await texts(steps))[1:]
    attached = [base64.b64encode(mark.encode()).decode() for mark in marks]
    assert [mark in text for mark, text in zip(attached, found, strict=True)] == [True] * 3
    left = "select 1 from hospital.queued_note where sealed_note is not null and emr_id = $1"
    assert await stack.sql("a", left, steps.patient.emr_id) == []


async def test_a_queued_note_is_kept_once_for_a_key_and_told_to_its_author_alone(stack: Stack, cast: Cast) -> None:
    steps = await Steps.begin(stack, cast, notes=0)
    key = secrets.token_hex(8)
    accepted = await asyncio.gather(*(queue(steps, "Once.", Idempotency_Key=key) for _ in range(4)))
    assert {(one.status, one.headers["location"]) for one in accepted} == {(202, accepted[0].headers["location"])}
    assert (await ended(steps, accepted[0]))["version"] == 1
    unhurried = await steps.post_note("Once.", headers={"Idempotency-Key": key})
    assert (unhurried.status, unhurried.headers["location"]) == (202, accepted[0].headers["location"])
    added = await steps.post_note("At once.", headers={"Idempotency-Key": f"{key}-2"})
    hurried = await queue(steps, "At once.", Idempotency_Key=f"{key}-2")
    assert (hurried.status, hurried.body["version"]) == (201, added.body["version"])
    path = accepted[0].headers["location"].removeprefix("/v1")
    other = await stack.call(cast.healthcenter, "consent", "GET", path)
    assert (other.status, other.code) == (404, "TRANSACTION_NOT_FOUND")
    assert (await stack.call(cast.physician, "consent", "GET", path)).body["state"] == "committed"


async def test_a_note_that_is_refused_holds_up_none_behind_it(stack: Stack, cast: Cast) -> None:
    steps = await Steps.begin(stack, cast, notes=1)
    stale, behind = await queue(steps, "Too late.", If_Match='"0"'), await queue(steps, "In time.")
    told = await ended(steps, stale)
    assert (told["state"], told["code"]) == ("refused", "VERSION_CONFLICT")
    assert (await ended(steps, behind))["version"] == 2
