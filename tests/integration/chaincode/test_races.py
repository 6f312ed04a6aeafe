"""What was endorsed before something changed does not count after it."""

from __future__ import annotations

import os

from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from hlf.errors import EndorseError
from support.contract_network import A, B, new_id, refusal_of, sha256
from support.contract_stories import SEALING_KEY, Story


async def test_a_disclosure_endorsed_before_an_ending_is_invalid_after_it(story: Story) -> None:
    await story.share_all()
    physician = story.staff(Role.PHYSICIAN, B)
    raced = await story.network.endorse(physician, Function.GET_SHARED_EMR, A, story.patient_id, "TREAT")
    await story.remove()
    assert (await story.network.commit(physician, raced)).validation_name == "MVCC_READ_CONFLICT"


async def test_a_disclosure_endorsed_before_an_erasure_is_asked_for_is_invalid_after_it(story: Story) -> None:
    await story.share_all()
    physician = story.staff(Role.PHYSICIAN, B)
    raced = await story.network.endorse(physician, Function.GET_SHARED_EMR, A, story.patient_id, "TREAT")
    await story.network.submit(story.patient, Function.REQUEST_ERASURE)
    assert (await story.network.commit(physician, raced)).validation_name == "MVCC_READ_CONFLICT"


async def test_a_snapshot_endorsed_before_an_ending_is_invalid_after_it(story: Story) -> None:
    await story.authorize()
    await story.approve()
    sealed, service = os.urandom(100), story.staff(Role.SERVICE)
    raced = await story.network.endorse(
        service,
        Function.SHARE_EMR_SNAPSHOT,
        story.emr_id,
        B,
        "0",
        sha256(sealed),
        transient={"snapshot": sealed},
    )
    await story.end()
    assert (await story.network.commit(service, raced)).validation_name == "MVCC_READ_CONFLICT"


async def test_an_approval_endorsed_before_an_ending_is_invalid_after_it(story: Story) -> None:
    await story.request()
    center = story.staff(Role.HEALTHCENTER)
    raced = await story.network.endorse(center, Function.AUTHORIZE_EMR_READING, story.emr_id, B, "0", SEALING_KEY)
    await story.remove()
    assert (await story.network.commit(center, raced)).validation_name == "MVCC_READ_CONFLICT"


async def test_a_note_endorsed_before_an_erasure_is_invalid_after_it(story: Story) -> None:
    physician, sealed = story.staff(Role.PHYSICIAN), os.urandom(50)
    raced = await story.network.endorse(
        physician,
        Function.ADD_EMR_NOTE,
        *story.note_arguments(sealed, note_id=new_id()),
        transient={"note": sealed},
    )
    await story.erase()
    assert (await story.network.commit(physician, raced)).validation_name == "MVCC_READ_CONFLICT"


async def test_an_erasure_endorsed_before_a_note_is_invalid_after_it(story: Story) -> None:
    await story.network.submit(story.patient, Function.REQUEST_ERASURE)
    center = story.staff(Role.HEALTHCENTER)
    raced = await story.network.endorse(center, Function.ERASE_EMR, story.emr_id)
    await story.add_note()
    assert (await story.network.commit(center, raced)).validation_name == "MVCC_READ_CONFLICT"
    await story.network.submit(center, Function.ERASE_EMR, story.emr_id)


async def test_an_ending_that_another_hospital_endorses_alone_is_invalid(story: Story) -> None:
    await story.request()
    transaction = await story.network.endorse(story.patient, Function.REMOVE_EMR_SHARING, B, endorsers=[B])
    commit = await story.network.commit(story.patient, transaction)
    assert commit.validation_name == "ENDORSEMENT_POLICY_FAILURE"


async def test_a_write_that_one_hospital_endorses_alone_is_not_valid(story: Story) -> None:
    """A gateway that knows the policy refuses to prepare it; whoever goes around the gateway is found out at commit."""
    try:
        transaction = await story.network.endorse(
            story.staff(Role.HEALTHCENTER),
            Function.AUTHORIZE_EMR_READING,
            story.emr_id,
            B,
            "0",
            SEALING_KEY,
            endorsers=[A],
        )
    except EndorseError:
        return
    commit = await story.network.commit(story.staff(Role.HEALTHCENTER), transaction)
    assert commit.validation_name == "ENDORSEMENT_POLICY_FAILURE"


async def test_a_patient_ends_a_sharing_and_asks_for_erasure_while_the_other_hospital_is_down(story: Story) -> None:
    await story.share_all()
    async with story.network.without_peer(B):
        await story.remove()
        await story.erase()
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
