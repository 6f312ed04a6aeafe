"""Erasure, and the binding of a patient's key."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from emr_model.ledger import answers
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.values import Life
from hlf.identity import SigningIdentity
from support.contract_network import A, key_of, refusal_of
from support.contract_stories import Story


async def test_an_emr_is_erased_only_after_the_patient_asked(story: Story) -> None:
    center = story.staff(Role.HEALTHCENTER)
    erase = (center, Function.ERASE_EMR, story.emr_id)
    assert await refusal_of(story.network.endorse(*erase)) is Code.ERASURE_NOT_REQUESTED
    await story.network.submit(story.patient, Function.REQUEST_ERASURE)
    await story.network.submit(story.patient, Function.CANCEL_ERASURE)
    assert await refusal_of(story.network.endorse(*erase)) is Code.ERASURE_NOT_REQUESTED
    cancel = story.network.endorse(story.patient, Function.CANCEL_ERASURE)
    assert await refusal_of(cancel) is Code.ERASURE_NOT_REQUESTED
    await story.erase()
    assert await refusal_of(story.network.endorse(*erase)) is Code.EMR_ERASED


async def test_nothing_is_left_of_an_erased_emr(story: Story) -> None:
    await story.add_note()
    await story.erase()
    physician = story.staff(Role.PHYSICIAN)
    calls = [
        story.own_emr(),
        story.network.evaluate(physician, Function.READ_EMR, story.emr_id),
        story.network.evaluate(physician, Function.GET_EMR_BY_PATIENT_ID, story.patient_id),
        story.network.endorse(story.patient, Function.REQUEST_ERASURE),
        story.add_note(),
        story.authorize(),
        story.approve(),
    ]
    assert {await refusal_of(call) for call in calls} == {Code.EMR_ERASED}
    assert await refusal_of(story.request()) is Code.ACCESS_NOT_GRANTED
    answer = await story.network.evaluate(
        story.staff(Role.HEALTHCENTER), Function.CHECK_IS_PATIENT_REGISTERED, story.patient_id
    )
    assert not answers.PatientRegistered.from_json(answer).registered


async def test_an_erased_emr_is_no_longer_shown_to_others(story: Story) -> None:
    await story.share_all()
    receipt = (await story.disclose()).receipt
    await story.erase()
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    assert await refusal_of(story.read_shared(receipt)) is Code.RECEIPT_EXPIRED


async def test_nothing_is_shared_once_erasure_is_asked_for_but_care_goes_on(story: Story) -> None:
    await story.share_all()
    await story.network.submit(story.patient, Function.REQUEST_ERASURE)
    assert (await story.own_emr()).life is Life.ERASURE_REQUESTED
    refused = [
        story.disclose(),
        story.authorize(),
        story.approve(),
        story.request(),
        story.network.endorse(story.patient, Function.REQUEST_ERASURE),
    ]
    assert {await refusal_of(call) for call in refused} == {Code.ERASURE_REQUESTED}
    await story.add_note()
    await story.remove()


async def test_a_new_key_counts_a_day_later_and_the_old_one_until_then(story: Story) -> None:
    if not story.network.is_devnet:
        pytest.skip("official peers refuse a transaction more than a quarter of an hour from their clock")
    successor = story.network.hospitals[A].person(Role.PATIENT, story.patient_id)
    center = story.staff(Role.HEALTHCENTER)
    await story.network.submit(center, Function.REBIND_PATIENT_KEY, story.emr_id, key_of(successor))

    def reads(person: SigningIdentity) -> Coroutine[Any, Any, bytes]:
        return story.network.evaluate(person, Function.GET_OWN_EMR)

    story.network.clock.ahead = timedelta(hours=23, minutes=59)
    await reads(story.patient)
    assert await refusal_of(reads(successor)) is Code.PATIENT_KEY_NOT_BOUND
    story.network.clock.ahead = timedelta(hours=24, minutes=1)
    await reads(successor)
    assert await refusal_of(reads(story.patient)) is Code.PATIENT_KEY_NOT_BOUND
