"""The workflow "Sharing an EMR" with every refusal: over HTTP, and again at the contract with the same certificates."""

from __future__ import annotations

import asyncio

import pytest
from emr_deploy.process import Stage
from emr_model.ledger.answers import OrganizationView, SharedEmr
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from support.ledger_access import LedgerAccess
from support.sharing_steps import NOBODY_MEANS, PURPOSE, Cast, Steps
from support.stack import Stack


async def require_no_access(steps: Steps, ledger: LedgerAccess) -> None:
    """B's physician is refused by the records service, and by the contract, whatever asks it."""
    answer = await steps.disclose()
    assert (answer.status, answer.code) == (403, "ACCESS_NOT_GRANTED")
    arguments = (steps.wanted["ownerMsp"], steps.patient.patient_id, PURPOSE)
    refused = await ledger.refusal(steps.cast.other_physician, Function.GET_SHARED_EMR, *arguments)
    assert refused is Code.ACCESS_NOT_GRANTED


async def test_b_reads_only_after_owner_and_patient_have_approved(steps: Steps, ledger: LedgerAccess) -> None:
    await require_no_access(steps, ledger)
    assert (await steps.request()).status == 201
    await require_no_access(steps, ledger)
    assert (await steps.approve_as_owner()).status == 200
    await require_no_access(steps, ledger)
    assert (await steps.approve_as_patient()).status == 200
    await steps.until_shared()
    shared = await steps.read_shared()
    assert (shared["version"], len(shared["notes"])) == (1, 1)
    assert shared["demographics"]["resourceType"] == "Patient"


async def test_b_does_not_read_when_the_patient_alone_has_approved(steps: Steps, ledger: LedgerAccess) -> None:
    assert (await steps.approve_as_patient()).status == 200
    await require_no_access(steps, ledger)


async def test_another_patients_approval_changes_nothing(steps: Steps, ledger: LedgerAccess) -> None:
    stranger = await Steps.begin(steps.stack, steps.cast)
    (await steps.approve_as_owner()).required()
    (await stranger.approve_as_patient()).required()
    await require_no_access(steps, ledger)
    await require_no_access(stranger, ledger)
    assert (await steps.sharing())["state"] == "awaiting_patient"


async def test_an_approval_of_a_version_that_nobody_means_is_refused(steps: Steps, ledger: LedgerAccess) -> None:
    version = steps.version + NOBODY_MEANS
    for answer in (await steps.approve_as_owner(version), await steps.approve_as_patient(version)):
        assert (answer.status, answer.code) == (412, "APPROVAL_VERSION_UNKNOWN")
    msp_id = steps.other_msp
    found = OrganizationView.from_json(await ledger.evaluate(steps.patient, Function.GET_ORGANIZATION, msp_id))
    arguments = (steps.patient.emr_id, msp_id, str(version), found.organization.sealing_keys[-1].id)
    as_owner = await ledger.refusal(steps.cast.healthcenter, Function.AUTHORIZE_EMR_READING, *arguments)
    as_patient = await ledger.refusal(steps.patient, Function.APPROVE_EMR_SHARING, msp_id, str(version))
    assert {as_owner, as_patient} == {Code.APPROVAL_VERSION_UNKNOWN}


async def test_a_new_note_is_invisible_to_b_until_both_approve_again(steps: Steps) -> None:
    await steps.share()
    first = await steps.read_shared()
    await steps.note("Only for those who are told.")
    assert (await steps.read_shared())["notes"] == first["notes"]
    (await steps.approve_as_patient()).required()
    assert (await steps.read_shared())["notes"] == first["notes"]
    (await steps.approve_as_owner()).required()
    await steps.until_shared()
    second = await steps.read_shared()
    assert second["notes"][:1] == first["notes"]
    assert [note["version"] for note in second["notes"]] == [1, 2]


async def test_b_reads_nothing_after_the_patient_has_removed_the_sharing(steps: Steps, ledger: LedgerAccess) -> None:
    await steps.share()
    receipt = await steps.receipt()
    assert (await steps.shared_answer(receipt)).status_code == 200
    assert (await steps.remove()).status == 200
    await require_no_access(steps, ledger)
    late = await steps.shared_answer(receipt)
    assert (late.status_code, late.json()["code"]) == (410, "RECEIPT_EXPIRED")
    again = await ledger.refusal(steps.cast.other_physician, Function.READ_SHARED_EMR, receipt)
    assert again is Code.RECEIPT_EXPIRED
    (await steps.approve_as_owner()).required()
    await require_no_access(steps, ledger)
    assert (await steps.sharing())["number"] == 2


async def test_the_owner_withdraws_as_well(steps: Steps, ledger: LedgerAccess) -> None:
    await steps.share()
    path = f"/emrs/{steps.patient.emr_id}/sharings/{steps.other_msp}"
    staff = steps.cast.healthcenter
    ended = await steps.stack.call(staff, "consent", "DELETE", path, params={"why": "withdrawn"})
    assert ended.status == 200
    await require_no_access(steps, ledger)


async def test_every_read_of_bs_is_seen_by_the_patient_and_stands_in_both_read_models(steps: Steps) -> None:
    await steps.share()
    disclosed = (await steps.disclose()).required()
    seen = (await steps.stack.call(steps.patient, "records", "GET", "/me/disclosures")).required()
    assert [one["receipt"] for one in seen["disclosures"]] == [disclosed["receipt"]]
    for hospital in ("a", "b"):
        await steps.stack.wait_for_rows(hospital)
        query = "select * from care.disclosure where emr_id = $1"
        (row,) = await steps.stack.sql(hospital, query, steps.patient.emr_id)
        assert (row["transaction_id"], row["block"]) == (disclosed["transactionId"], disclosed["block"])


@pytest.fixture
def services_of_a(stack: Stack) -> list[str]:
    return [one.name for one in stack.system.processes if one.stage is Stage.SERVICES and one.organization == "a"]


async def test_the_snapshot_stays_byte_for_byte_after_a_new_note_and_without_as_services(
    stack: Stack, cast: Cast, ledger: LedgerAccess, services_of_a: list[str]
) -> None:
    steps = await Steps.begin(stack, cast, notes=2)
    await steps.share()
    receipt = await steps.receipt()
    answered, sealed = (await steps.shared_answer(receipt)).content, await sealed_snapshot(steps, ledger, receipt)
    await steps.note("A third one.")
    assert (await steps.shared_answer(receipt)).content == answered
    async with stack.stopped(*services_of_a):
        assert (await steps.shared_answer(receipt)).content == answered
        later = await steps.receipt()
        assert await sealed_snapshot(steps, ledger, later) == sealed
    assert (await stack.call(steps.patient, "records", "GET", "/me/emr")).status == 200


async def sealed_snapshot(steps: Steps, ledger: LedgerAccess, receipt: str) -> str | None:
    """As the contract gives it to B's physician."""
    answer = await ledger.evaluate(steps.cast.other_physician, Function.READ_SHARED_EMR, receipt)
    return SharedEmr.from_json(answer).sealed


async def test_all_three_at_the_same_moment_share_once(steps: Steps, ledger: LedgerAccess) -> None:
    """Request and approvals write one key: who loses the race is asked for once more by the service, not the person."""
    start = steps.stack.height
    answers = await asyncio.gather(steps.request(), steps.approve_as_owner(), steps.approve_as_patient())
    assert [one.status for one in answers] in ([201, 200, 200], [409, 200, 200]), answers
    await steps.until_shared()
    emr_id = steps.patient.emr_id.encode()
    written = [one for _, one in (await ledger.transactions("a", start)).values() if one.is_valid]
    shared = [one for one in written if one.args[:2] == (b"ShareEmrSnapshot", emr_id)]
    assert len(shared) == 1
