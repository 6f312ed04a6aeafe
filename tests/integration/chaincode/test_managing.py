"""Managing an EMR: created, written to, read by those who may."""

from __future__ import annotations

import base64
import os
from collections.abc import Coroutine
from typing import Any

from emr_model.ledger import answers
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.values import Life
from hlf.gateway import Transaction
from support.contract_network import A, B, ContractNetwork, key_of, new_id, refusal_of, sha256
from support.contract_stories import COMMITMENT, Story


def opened(sealed: str | None) -> bytes:
    assert sealed is not None
    return base64.b64decode(sealed)


async def test_a_physician_reads_what_was_written(story: Story) -> None:
    await story.add_note()
    await story.add_note(is_visit=False)
    physician = story.staff(Role.PHYSICIAN)
    view = answers.EmrView.from_json(await story.network.evaluate(physician, Function.READ_EMR, story.emr_id))
    assert opened(view.demographics) == story.demographics
    assert [opened(note.sealed) for note in view.notes] == story.notes
    assert [note.note_id for note in view.notes] == story.note_ids
    assert [note.version for note in view.notes] == [1, 2]
    assert (view.emr.owner, view.emr.version, view.emr.visits, view.life, view.next) == (A, 2, 1, Life.ACTIVE, None)


async def test_the_patient_reads_the_same(story: Story) -> None:
    await story.add_note()
    view = await story.own_emr()
    assert [opened(note.sealed) for note in view.notes] == story.notes
    assert view.emr_id == story.emr_id


async def test_an_emr_comes_in_pages(story: Story) -> None:
    for _ in range(5):
        await story.add_note(size=50)
    first = await story.own_emr("", "2")
    second = await story.own_emr(str(first.next), "2")
    assert [note.version for note in first.notes + second.notes] == [1, 2, 3, 4]
    assert (first.next, second.next, second.demographics) == (3, 5, None)
    assert (await story.own_emr("", "0")).notes == ()


async def test_a_note_is_known_by_its_id_before_its_version_is_looked_at(story: Story) -> None:
    await story.add_note()
    sealed = os.urandom(10)
    arguments = story.note_arguments(sealed, note_id=story.note_ids[0], version=0)
    call = story.network.endorse(
        story.staff(Role.PHYSICIAN), Function.ADD_EMR_NOTE, *arguments, transient={"note": sealed}
    )
    assert await refusal_of(call) is Code.NOTE_ID_EXISTS


async def test_a_note_for_another_version_is_refused(story: Story) -> None:
    sealed = os.urandom(10)
    arguments = story.note_arguments(sealed, note_id=new_id(), version=1)
    call = story.network.endorse(
        story.staff(Role.PHYSICIAN), Function.ADD_EMR_NOTE, *arguments, transient={"note": sealed}
    )
    assert await refusal_of(call) is Code.VERSION_CONFLICT


async def test_of_two_notes_for_one_version_one_is_committed(story: Story) -> None:
    physician, transactions = story.staff(Role.PHYSICIAN), []
    for _ in range(2):
        sealed = os.urandom(10)
        arguments = story.note_arguments(sealed, note_id=new_id())
        transactions.append(
            await story.network.endorse(physician, Function.ADD_EMR_NOTE, *arguments, transient={"note": sealed})
        )
    outcomes = [(await story.network.commit(physician, one)).validation_name for one in transactions]
    assert outcomes == ["VALID", "MVCC_READ_CONFLICT"]


async def test_a_patient_has_one_emr_in_a_hospital(story: Story) -> None:
    def create(emr_id: str, patient_id: str) -> Coroutine[Any, Any, Transaction]:
        return story.network.endorse(
            story.staff(Role.HEALTHCENTER),
            Function.CREATE_EMR,
            emr_id,
            patient_id,
            key_of(story.patient),
            COMMITMENT,
            sha256(b"x"),
            transient={"demographics": b"x"},
        )

    assert await refusal_of(create(new_id(), story.patient_id)) is Code.PATIENT_ALREADY_REGISTERED
    assert await refusal_of(create(story.emr_id, new_id())) is Code.EMR_EXISTS


async def test_another_hospital_cannot_read_or_write_the_emr(story: Story) -> None:
    network, sealed = story.network, b"x"
    physician, center = story.staff(Role.PHYSICIAN, B), story.staff(Role.HEALTHCENTER, B)
    note = story.note_arguments(sealed, note_id=new_id())
    calls = [
        network.evaluate(physician, Function.READ_EMR, story.emr_id),
        network.evaluate(physician, Function.READ_EMR, story.emr_id, on=A),
        network.endorse(physician, Function.ADD_EMR_NOTE, *note, transient={"note": sealed}),
        network.endorse(center, Function.REBIND_PATIENT_KEY, story.emr_id, "a" * 64),
        network.endorse(center, Function.AUTHORIZE_EMR_READING, story.emr_id, B, "0", "k1"),
        network.endorse(center, Function.ERASE_EMR, story.emr_id),
    ]
    assert {await refusal_of(call) for call in calls} == {Code.EMR_NOT_OWNED}
    lookup = network.evaluate(physician, Function.GET_EMR_BY_PATIENT_ID, story.patient_id)
    assert await refusal_of(lookup) is Code.EMR_NOT_FOUND


async def test_the_right_patient_id_with_another_key_is_refused(story: Story) -> None:
    impostor = story.network.hospitals[A].person(Role.PATIENT, story.patient_id)
    assert await refusal_of(story.network.evaluate(impostor, Function.GET_OWN_EMR)) is Code.PATIENT_KEY_NOT_BOUND


async def test_the_right_patient_id_from_another_hospital_is_refused(story: Story) -> None:
    impostor = story.network.hospitals[B].person(Role.PATIENT, story.patient_id)
    for function in (Function.GET_OWN_EMR, Function.GET_OWN_SHARINGS, Function.GET_OWN_DISCLOSURES):
        assert await refusal_of(story.network.evaluate(impostor, function)) is Code.PATIENT_KEY_NOT_BOUND
    call = story.network.endorse(impostor, Function.REMOVE_EMR_SHARING, B)
    assert await refusal_of(call) is Code.PATIENT_KEY_NOT_BOUND


async def test_visits_are_counted_at_the_own_hospital_only(story: Story) -> None:
    await story.add_note()
    await story.add_note(is_visit=False)
    answer = await story.network.evaluate(story.patient, Function.GET_MEDICAL_VISIT_COUNT, A)
    assert answers.VisitCount.from_json(answer).visits == 1
    call = story.network.evaluate(story.patient, Function.GET_MEDICAL_VISIT_COUNT, B)
    assert await refusal_of(call) is Code.PROVIDER_NOT_OWN


async def test_admission_finds_its_own_patients(story: Story, network: ContractNetwork) -> None:
    async def check(msp_id: str) -> answers.PatientRegistered:
        center = network.staff(msp_id, Role.HEALTHCENTER)
        answer = await network.evaluate(center, Function.CHECK_IS_PATIENT_REGISTERED, story.patient_id)
        return answers.PatientRegistered.from_json(answer)

    assert await check(A) == answers.PatientRegistered(registered=True, emr_id=story.emr_id)
    assert await check(B) == answers.PatientRegistered(registered=False, emr_id=None)


async def test_demographics_have_revisions(story: Story) -> None:
    sealed = os.urandom(100)

    def update(expected: str) -> Coroutine[Any, Any, tuple[bytes, str]]:
        return story.network.submit(
            story.staff(Role.HEALTHCENTER),
            Function.UPDATE_DEMOGRAPHICS,
            story.emr_id,
            expected,
            COMMITMENT,
            sha256(sealed),
            transient={"demographics": sealed},
        )

    answer, _ = await update("1")
    assert answers.DemographicsUpdated.from_json(answer).revision == 2
    assert opened((await story.own_emr()).demographics) == sealed
    assert await refusal_of(update("1")) is Code.VERSION_CONFLICT


async def test_hospitals_are_listed_page_by_page(network: ContractNetwork) -> None:
    anyone, found, bookmark = network.staff(A, Role.SERVICE), [], ""
    while True:
        answer = await network.evaluate(anyone, Function.LIST_ORGANIZATIONS, "1", bookmark)
        page = answers.OrganizationList.from_json(answer)
        found += [view.msp_id for view in page.organizations]
        if not (bookmark := page.bookmark):
            break
    assert found == [A, B]
