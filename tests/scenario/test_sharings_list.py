"""Lists of sharings: both directions, states, pages, and how far they are."""

from __future__ import annotations

from typing import Any

import pytest
from emr_common.cursors import cursor
from support.sharing_steps import Steps


async def listed(steps: Steps, staff: Any, **params: Any) -> dict[str, Any]:
    answer = await steps.stack.call(staff, "consent", "GET", "/sharings", params=params)
    return answer.required()


async def test_a_sharing_is_outgoing_at_the_owner_and_incoming_at_the_recipient(steps: Steps) -> None:
    block = (await steps.request()).required()["block"]
    for staff, direction in ((steps.cast.healthcenter, "outgoing"), (steps.cast.other_physician, "incoming")):
        page = await listed(steps, staff, direction=direction, state="requested", min_block=block, limit=200)
        assert page["as_of_block"] >= block
        found = [one for one in page["sharings"] if one["emrId"] == steps.patient.emr_id]
        assert [(one["state"], one["number"], one["block"]) for one in found] == [("requested", 1, block)]
    page = await listed(steps, steps.cast.healthcenter, direction="incoming", limit=200)
    assert steps.patient.emr_id not in {one["emrId"] for one in page["sharings"]}


async def test_a_service_answers_with_what_it_has_just_written(steps: Steps) -> None:
    block = (await steps.request()).required()["block"]
    page = await listed(steps, steps.cast.other_physician, direction="incoming", limit=200)
    assert page["as_of_block"] >= block
    assert steps.patient.emr_id in {one["emrId"] for one in page["sharings"]}


async def test_pages_put_together_are_the_whole_list(steps: Steps) -> None:
    others = [await Steps.begin(steps.stack, steps.cast) for _ in range(2)]
    blocks = [(await one.request()).required()["block"] for one in (steps, *others)]
    seen: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = await listed(steps, steps.cast.healthcenter, limit=1, min_block=max(blocks), **after)
        seen += [f"{one['emrId']}/{one['number']}" for one in page["sharings"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert len(seen) == len(set(seen))
    assert {f"{one.patient.emr_id}/1" for one in (steps, *others)} <= set(seen)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"after": "no cursor"}, (400, "MALFORMED_REQUEST")),
        ({"after": "WzEsMiwzXQ=="}, (400, "MALFORMED_REQUEST")),
        ({"after": cursor(["a", "\0", 1])}, (400, "MALFORMED_REQUEST")),
        ({"after": cursor(["a", "b", 10**30])}, (400, "MALFORMED_REQUEST")),
        ({"min_block": 10**9}, (400, "BLOCK_UNKNOWN")),
        ({"state": "imaginary"}, (422, "VALIDATION_FAILED")),
        ({"direction": "up"}, (422, "VALIDATION_FAILED")),
        ({"limit": 0}, (422, "VALIDATION_FAILED")),
    ],
)
async def test_a_malformed_question_is_refused(steps: Steps, params: dict[str, Any], expected: tuple[int, str]) -> None:
    answer = await steps.stack.call(steps.cast.healthcenter, "consent", "GET", "/sharings", params=params)
    assert (answer.status, answer.code) == expected


async def test_a_patient_does_not_list_the_hospitals_sharings(steps: Steps) -> None:
    answer = await steps.stack.call(steps.patient, "consent", "GET", "/sharings")
    assert (answer.status, answer.code) == (403, "ROLE_NOT_ALLOWED")
