"""What is shown before an approval: all of it to the patient, its outline to admission staff, to others nothing."""

from __future__ import annotations

from typing import Any

from emr_deploy.callers import Answer
from support.sharing_steps import Steps
from support.stack import Actor


async def preview(steps: Steps, actor: Actor, version: int | None = None, msp: str = "") -> Answer:
    side = "/me" if actor is steps.patient else f"/emrs/{steps.patient.emr_id}"
    params = {} if version is None else {"version": str(version)}
    path = f"{side}/sharings/{msp or steps.other_msp}/preview"
    return await steps.stack.call(actor, "consent", "GET", path, params=params)


def versions(answer: dict[str, Any], *, new: bool = False) -> list[int]:
    return [note["version"] for note in answer["notes"] if note["isNew"] or not new]


async def test_a_patient_sees_before_approving_exactly_what_is_shared_then(steps: Steps) -> None:
    (await steps.request()).required()
    shown = (await preview(steps, steps.patient)).required()
    assert (shown["state"], shown["purpose"], shown["approvedVersion"]) == ("requested", "TREAT", None)
    (await steps.approve_as_patient(shown["version"])).required()
    (await steps.approve_as_owner()).required()
    await steps.until_shared()
    shared = await steps.read_shared()
    assert shared["demographics"] == shown["demographics"]
    assert [note["content"] for note in shared["notes"]] == [note["content"] for note in shown["notes"]]
    assert [note["noteId"] for note in shared["notes"]] == [note["noteId"] for note in shown["notes"]]


async def test_a_preview_marks_what_came_after_the_last_approval(steps: Steps) -> None:
    await steps.share()
    await steps.note("Something new.")
    for actor in (steps.patient, steps.cast.healthcenter):
        shown = (await preview(steps, actor)).required()
        assert (versions(shown), versions(shown, new=True)) == ([1, 2], [2])
        assert (shown["approvedVersion"], shown["readableVersion"], shown["currentVersion"]) == (1, 1, 2)


async def test_a_preview_is_of_the_version_that_the_other_side_has_approved(steps: Steps) -> None:
    (await steps.approve_as_owner()).required()
    await steps.note("After the hospital's approval.")
    shown = (await preview(steps, steps.patient)).required()
    assert (versions(shown), shown["version"], shown["currentVersion"]) == ([1], 1, 2)
    assert versions((await preview(steps, steps.patient, version=2)).required()) == [1, 2]


async def test_staff_see_versions_dates_and_kinds_and_no_content(steps: Steps) -> None:
    answer = await preview(steps, steps.cast.healthcenter)
    (note,) = answer.required()["notes"]
    assert set(note) == {"version", "noteId", "kind", "at", "periodStart", "isNew"}
    assert note["kind"] == "text"
    assert steps.texts[0] not in str(answer.body)
    assert "demographics" not in answer.body


async def test_nobody_else_gets_a_preview(steps: Steps) -> None:
    refused = [
        (await preview(steps, steps.cast.physician), 403, "ROLE_NOT_ALLOWED"),
        (await preview(steps, steps.cast.other_healthcenter, msp=steps.stack.msp_id("a")), 403, "EMR_NOT_OWNED"),
        (await preview(steps, steps.patient, version=99), 412, "APPROVAL_VERSION_UNKNOWN"),
        (await preview(steps, steps.patient, msp="Nowhere"), 404, "ORGANIZATION_NOT_FOUND"),
        (await preview(steps, steps.patient, msp=steps.stack.msp_id("a")), 409, "SHARING_WITH_SELF"),
    ]
    assert [(answer.status, answer.code) for answer, _, _ in refused] == [(status, code) for _, status, code in refused]


async def test_every_preview_is_in_the_access_log(steps: Steps) -> None:
    for actor in (steps.patient, steps.cast.healthcenter):
        (await preview(steps, actor)).required()
    query = "select role from hospital.access_log where emr_id = $1 and action = 'preview-sharing' order by role"
    rows = await steps.stack.sql("a", query, steps.patient.emr_id)
    assert [row["role"] for row in rows] == ["healthcenter", "patient"]
