"""Sharing an EMR: two approvals, one snapshot, a receipt for every read, and an end."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta

import pytest
from emr_model.ledger import answers
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.sharing import SharingState, Side
from emr_model.ledger.values import EndReason
from support.contract_network import A, B, RefusedByContract, new_id, refusal_of, sha256
from support.contract_stories import Story, profile


async def test_b_reads_exactly_the_snapshot_that_both_approved(story: Story) -> None:
    await story.add_note()
    await story.request()
    sealed = await story.share_all()
    receipt = await story.disclose()
    shared = await story.read_shared(receipt.receipt)
    assert base64.b64decode(shared.sealed) == sealed
    assert (shared.owner_msp, shared.recipient_msp, shared.version, shared.sharing) == (A, B, 1, 1)
    assert (shared.sha256, shared.recipient_key_id) == (sha256(sealed), "k1")


async def test_reading_is_refused_until_both_have_approved_and_the_snapshot_is_there(story: Story) -> None:
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    await story.request()
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    await story.authorize()
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    await story.approve()
    assert await refusal_of(story.disclose()) is Code.SNAPSHOT_PENDING
    await story.share()
    await story.disclose()


async def test_the_states_of_a_sharing_follow_its_approvals_in_either_order(story: Story) -> None:
    await story.approve()
    assert (await story.sharing()).state is SharingState.AWAITING_OWNER
    await story.request()
    assert (await story.sharing()).state is SharingState.AWAITING_OWNER
    await story.authorize()
    assert (await story.sharing()).state is SharingState.APPROVED
    await story.share()
    assert (await story.sharing()).state is SharingState.SHARED
    await story.remove()
    assert (await story.sharing()).state is SharingState.ENDED


async def test_an_unknown_patient_and_a_missing_grant_are_one_answer(story: Story) -> None:
    physician = story.staff(Role.PHYSICIAN, B)
    for function in (Function.GET_SHARED_EMR, Function.REQUEST_EMR_ACCESS):
        call = story.network.endorse(physician, function, A, new_id(), "TREAT")
        assert await refusal_of(call) is Code.ACCESS_NOT_GRANTED


async def test_a_hospital_does_not_share_with_itself(story: Story) -> None:
    network, own = story.network, story.staff(Role.PHYSICIAN)
    calls = [
        network.endorse(own, Function.REQUEST_EMR_ACCESS, A, story.patient_id, "TREAT"),
        network.endorse(own, Function.GET_SHARED_EMR, A, story.patient_id, "TREAT"),
        network.endorse(story.staff(Role.HEALTHCENTER), Function.AUTHORIZE_EMR_READING, story.emr_id, A, "0", "k1"),
        network.endorse(story.patient, Function.APPROVE_EMR_SHARING, A, "0"),
    ]
    assert {await refusal_of(call) for call in calls} == {Code.SHARING_WITH_SELF}


async def test_a_request_comes_once(story: Story) -> None:
    await story.request()
    assert await refusal_of(story.request()) is Code.REQUEST_EXISTS


async def test_an_approval_must_mean_the_current_version_or_the_other_sides(story: Story) -> None:
    for _ in range(3):
        await story.add_note()
    for wrong in (2, 4):
        assert await refusal_of(story.authorize(wrong)) is Code.APPROVAL_VERSION_UNKNOWN
        assert await refusal_of(story.approve(wrong)) is Code.APPROVAL_VERSION_UNKNOWN
    await story.authorize(3)
    await story.add_note()
    await story.approve(3)
    assert (await story.sharing()).pending_version == 3


async def test_the_snapshots_version_is_the_smaller_of_the_two_approvals(story: Story) -> None:
    await story.add_note()
    await story.authorize()
    await story.add_note()
    await story.approve()
    assert await refusal_of(story.share(2)) is Code.SNAPSHOT_VERSION_WRONG
    await story.share(1)
    assert await refusal_of(story.share(1)) is Code.SNAPSHOT_EXISTS
    assert (await story.sharing()).awaiting is Side.OWNER


async def test_a_snapshot_needs_both_approvals(story: Story) -> None:
    assert await refusal_of(story.share()) is Code.SHARING_NOT_FOUND
    await story.authorize()
    assert await refusal_of(story.share()) is Code.SHARING_NOT_APPROVED


async def test_a_later_note_is_invisible_until_both_approve_again(story: Story) -> None:
    await story.add_note()
    old = await story.share_all()
    await story.add_note()
    assert base64.b64decode((await story.read_shared((await story.disclose()).receipt)).sealed) == old
    await story.authorize()
    assert (await story.disclose()).version == 1
    await story.approve()
    assert (await story.sharing()).state is SharingState.APPROVED
    assert (await story.disclose()).version == 1
    new = await story.share()
    receipt = await story.disclose()
    assert base64.b64decode((await story.read_shared(receipt.receipt)).sealed) == new


async def test_an_ended_sharing_shows_nothing_and_the_next_one_starts_from_nothing(story: Story) -> None:
    await story.request()
    await story.share_all()
    receipt = await story.disclose()
    await story.remove()
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    assert await refusal_of(story.read_shared(receipt.receipt)) is Code.RECEIPT_EXPIRED
    await story.approve()
    view = await story.sharing()
    assert (view.number, view.state, view.readable_version) == (2, SharingState.AWAITING_OWNER, None)
    assert (view.access.request, view.access.owner_approval, view.access.snapshot) == (None, None, None)


async def test_the_owner_declines_or_withdraws(story: Story) -> None:
    await story.request()
    await story.end("declined")
    assert await refusal_of(story.end("declined")) is Code.SHARING_ENDED
    await story.share_all()
    await story.end("withdrawn")
    view = await story.sharing()
    assert view.end is not None
    assert (view.end.number, view.end.why) == (2, EndReason.WITHDRAWN)
    assert await refusal_of(story.remove()) is Code.SHARING_ENDED


async def test_an_ending_may_not_give_the_contracts_reasons(story: Story) -> None:
    await story.request()
    assert await refusal_of(story.end("expired")) is Code.ARGUMENT_INVALID


async def test_a_sharing_that_never_was_cannot_be_ended(story: Story) -> None:
    assert await refusal_of(story.remove()) is Code.SHARING_NOT_FOUND
    assert await refusal_of(story.end()) is Code.SHARING_NOT_FOUND


async def test_a_sharing_expires_and_what_follows_is_a_new_one(story: Story) -> None:
    service = story.staff(Role.SERVICE)
    story.network.clock.ahead = -timedelta(minutes=10)
    await story.share_all(expires_at=story.network.clock.now() + timedelta(minutes=5))
    receipt = await story.disclose()
    expire = (service, Function.EXPIRE_SHARING, story.emr_id, B)
    assert await refusal_of(story.network.endorse(*expire)) is Code.SHARING_NOT_EXPIRED
    story.network.clock.ahead = timedelta(0)
    assert (await story.sharing()).state is SharingState.EXPIRED
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    assert await refusal_of(story.read_shared(receipt.receipt)) is Code.RECEIPT_EXPIRED
    assert await refusal_of(story.share()) is Code.SHARING_EXPIRED
    await story.network.submit(*expire)
    assert (await story.sharing()).state is SharingState.ENDED
    await story.authorize()
    assert (await story.sharing()).number == 2


async def test_an_expired_sharing_needs_no_ending_to_be_followed(story: Story) -> None:
    story.network.clock.ahead = -timedelta(minutes=10)
    await story.share_all(expires_at=story.network.clock.now() + timedelta(minutes=5))
    story.network.clock.ahead = timedelta(0)
    await story.request()
    view = await story.sharing()
    assert (view.number, view.state) == (2, SharingState.REQUESTED)


async def test_an_expiry_in_the_past_is_refused(story: Story) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert await refusal_of(story.approve(expires_at=past)) is Code.ARGUMENT_INVALID


async def test_a_receipt_serves_its_reader_alone_and_for_a_quarter_of_an_hour(story: Story) -> None:
    story.network.clock.ahead = -timedelta(minutes=10)
    await story.share_all()
    receipt = (await story.disclose()).receipt
    colleague = story.network.hospitals[B].person(Role.PHYSICIAN)
    assert await refusal_of(story.read_shared(receipt, colleague)) is Code.RECEIPT_INVALID
    owner = story.staff(Role.PHYSICIAN)
    assert await refusal_of(story.read_shared(receipt, owner)) is Code.RECEIPT_INVALID
    story.network.clock.ahead = timedelta(minutes=4, seconds=50)
    await story.read_shared(receipt)
    story.network.clock.ahead = timedelta(minutes=5, seconds=10)
    assert await refusal_of(story.read_shared(receipt)) is Code.RECEIPT_EXPIRED


async def test_a_receipt_that_was_not_committed_is_none(story: Story) -> None:
    await story.share_all()
    physician = story.staff(Role.PHYSICIAN, B)
    transaction = await story.network.endorse(physician, Function.GET_SHARED_EMR, A, story.patient_id, "TREAT")
    receipt = answers.Receipt.from_json(transaction.result).receipt
    assert await refusal_of(story.read_shared(receipt)) is Code.RECEIPT_INVALID


async def test_an_owner_approval_names_a_sealing_key_of_the_recipient(story: Story) -> None:
    assert await refusal_of(story.authorize(key_id="k9")) is Code.RECIPIENT_KEY_UNKNOWN
    await story.network.submit(story.staff(Role.ADMIN, B), Function.REGISTER_ORGANIZATION, profile(B, ("k1", "k9")))
    await story.authorize(key_id="k9")
    await story.approve()
    await story.share()
    snapshot = (await story.sharing()).access.snapshot
    assert snapshot is not None
    assert snapshot.recipient_key_id == "k9"


async def test_a_sharing_with_a_hospital_that_nobody_knows_is_refused(story: Story) -> None:
    call = story.network.endorse(story.patient, Function.APPROVE_EMR_SHARING, "HospitalX", "0")
    assert await refusal_of(call) is Code.ORGANIZATION_NOT_FOUND


async def test_the_patient_sees_sharings_and_disclosures_page_by_page(story: Story) -> None:
    await story.share_all()
    receipts = {(await story.disclose()).receipt for _ in range(3)}
    answer = await story.network.evaluate(story.patient, Function.GET_OWN_SHARINGS)
    (sharing,) = answers.SharingList.from_json(answer).sharings
    assert (sharing.recipient_msp, sharing.state, sharing.readable_version) == (B, SharingState.SHARED, 0)
    seen, bookmark = set(), ""
    while True:
        answer = await story.network.evaluate(story.patient, Function.GET_OWN_DISCLOSURES, "2", bookmark)
        page = answers.DisclosureList.from_json(answer)
        seen |= {view.receipt for view in page.disclosures}
        if not (bookmark := page.bookmark):
            break
    assert seen == receipts


async def test_a_bookmark_opens_no_other_patients_list(story: Story) -> None:
    other = await Story.begin(story.network)
    await other.share_all()
    for _ in range(3):
        await other.disclose()
    answer = await story.network.evaluate(other.patient, Function.GET_OWN_DISCLOSURES, "1")
    bookmark = answers.DisclosureList.from_json(answer).bookmark
    call = story.network.evaluate(story.patient, Function.GET_OWN_DISCLOSURES, "10", bookmark)
    assert await refusal_of(call) is Code.ARGUMENT_INVALID


async def test_a_sharing_is_shown_to_its_two_hospitals_and_its_patient(story: Story) -> None:
    await story.request()
    other = await Story.begin(story.network)
    for person in (story.staff(Role.SERVICE, B), story.staff(Role.HEALTHCENTER), story.patient):
        await story.network.evaluate(person, Function.GET_SHARING, story.emr_id, B)
    call = story.network.evaluate(other.patient, Function.GET_SHARING, story.emr_id, B)
    assert await refusal_of(call) is Code.PATIENT_KEY_NOT_BOUND
    unknown = story.network.evaluate(story.staff(Role.SERVICE), Function.GET_SHARING, new_id(), B)
    assert await refusal_of(unknown) is Code.ACCESS_NOT_GRANTED
    none = story.network.evaluate(other.patient, Function.GET_SHARING, other.emr_id, B)
    assert await refusal_of(none) is Code.SHARING_NOT_FOUND


async def test_what_is_transient_must_be_what_its_digest_says(story: Story) -> None:
    call = story.network.endorse(
        story.staff(Role.SERVICE),
        Function.SHARE_EMR_SNAPSHOT,
        story.emr_id,
        B,
        "0",
        sha256(b"x"),
        transient={"snapshot": os.urandom(5)},
    )
    with pytest.raises(RefusedByContract) as caught:
        await call
    assert caught.value.code is Code.ARGUMENT_INVALID


class TestSnapshotsThatShouldGo:
    async def purgeable(self, story: Story) -> tuple[str, ...]:
        answer = await story.network.evaluate(
            story.staff(Role.SERVICE, B), Function.LIST_PURGEABLE_SNAPSHOTS, story.emr_id
        )
        return sum((item.snapshots for item in answers.PurgeableList.from_json(answer).purgeable), ())

    async def purge(self, story: Story, listed: str) -> None:
        await story.network.submit(story.staff(Role.SERVICE, B), Function.PURGE_SNAPSHOTS, story.emr_id, listed)

    async def test_a_snapshot_of_a_standing_sharing_stays(self, story: Story) -> None:
        await story.share_all()
        assert await self.purgeable(story) == ()
        assert await refusal_of(self.purge(story, '["1~0"]')) is Code.SNAPSHOT_IN_USE

    async def test_an_ended_sharings_snapshot_is_purged_by_the_recipient_alone(self, story: Story) -> None:
        await story.share_all()
        await story.remove()
        assert await self.purgeable(story) == ("1~0",)
        await self.purge(story, '["1~0"]')
        assert await self.purgeable(story) == ()

    async def test_a_snapshot_that_a_newer_one_replaced_is_purged(self, story: Story) -> None:
        await story.share_all()
        await story.add_note()
        await story.share_all()
        assert await self.purgeable(story) == ("1~0",)
        await self.purge(story, '["1~0"]')
        await story.read_shared((await story.disclose()).receipt)

    async def test_an_erased_emrs_snapshots_are_purged(self, story: Story) -> None:
        await story.share_all()
        await story.erase()
        assert await self.purgeable(story) == ("1~0",)
        await self.purge(story, '["1~0"]')

    async def test_a_sweep_over_all_sharings_finds_them_too(self, story: Story) -> None:
        await story.share_all()
        await story.remove()
        service, bookmark, found = story.staff(Role.SERVICE, B), "", set()
        while True:
            answer = await story.network.evaluate(service, Function.LIST_PURGEABLE_SNAPSHOTS, "", "50", bookmark)
            page = answers.PurgeableList.from_json(answer)
            found |= {item.emr_id for item in page.purgeable}
            if not (bookmark := page.bookmark):
                break
        assert story.emr_id in found
