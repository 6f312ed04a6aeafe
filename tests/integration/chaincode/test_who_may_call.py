"""Role × function at the contract itself, with valid certificates of every kind, from both hospitals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import pytest
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from hlf.identity import SigningIdentity
from support.contract_network import A, B, ContractNetwork, RefusedByContract, key_of, new_id, refusal_of, sha256
from support.contract_stories import COMMITMENT, Story, profile
from support.contract_table import WHO

SEALED = b"sealed"


@dataclass(frozen=True)
class Example:
    """A call of proper form."""

    arguments: tuple[str, ...]
    transient: Mapping[str, bytes]


def example(function: Function, story: Story) -> Example:
    emr, patient, digest = story.emr_id, story.patient_id, sha256(SEALED)
    arguments: dict[Function, tuple[str, ...]] = {
        Function.REGISTER_ORGANIZATION: (profile("Hospital"),),
        Function.GET_ORGANIZATION: (A,),
        Function.CREATE_EMR: (new_id(), new_id(), key_of(story.patient), COMMITMENT, digest),
        Function.CHECK_IS_PATIENT_REGISTERED: (patient,),
        Function.UPDATE_DEMOGRAPHICS: (emr, "1", COMMITMENT, digest),
        Function.REBIND_PATIENT_KEY: (emr, digest),
        Function.READ_EMR: (emr,),
        Function.GET_EMR_BY_PATIENT_ID: (patient,),
        Function.ADD_EMR_NOTE: (emr, "0", new_id(), "true", COMMITMENT, digest),
        Function.REQUEST_EMR_ACCESS: (A, patient, "TREAT"),
        Function.AUTHORIZE_EMR_READING: (emr, B, "0", "k1"),
        Function.END_EMR_READING: (emr, B, "withdrawn"),
        Function.APPROVE_EMR_SHARING: (B, "0"),
        Function.REMOVE_EMR_SHARING: (B,),
        Function.SHARE_EMR_SNAPSHOT: (emr, B, "0", digest),
        Function.EXPIRE_SHARING: (emr, B),
        Function.GET_SHARING: (emr, B),
        Function.GET_SHARED_EMR: (A, patient, "TREAT"),
        Function.READ_SHARED_EMR: (f"{emr}.{digest}",),
        Function.LIST_PURGEABLE_SNAPSHOTS: (emr,),
        Function.PURGE_SNAPSHOTS: (emr, json.dumps(["1~0"])),
        Function.GET_MEDICAL_VISIT_COUNT: (A,),
        Function.ERASE_EMR: (emr,),
    }
    name = function.spec.transient
    return Example(arguments.get(function, ()), {name: SEALED} if name else {})


async def outcome(story: Story, person: SigningIdentity, function: Function) -> Code | None:
    """The code of a refusal, None for an answer. Nothing is committed."""
    call = example(function, story)
    try:
        await story.network.evaluate(person, function, *call.arguments, transient=call.transient)
    except RefusedByContract as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize("function", list(Function))
async def test_every_role_but_those_of_the_table_is_refused(story: Story, function: Function) -> None:
    for role in Role:
        patient_id = story.patient_id if role is Role.PATIENT else None
        person = story.network.hospitals[A].person(role, patient_id)
        is_refused = await outcome(story, person, function) is Code.ROLE_NOT_ALLOWED
        assert is_refused == (role not in WHO[function]), role


@pytest.mark.parametrize("attribute", [None, "", "superuser", "Physician", "physician "])
async def test_a_certificate_without_a_known_role_may_nothing(story: Story, attribute: str | None) -> None:
    person = story.network.hospitals[A].person(attribute)
    assert {await outcome(story, person, function) for function in Function} == {Code.ROLE_NOT_ALLOWED}


async def test_a_role_beside_a_patient_id_makes_no_patient(story: Story) -> None:
    person = story.network.hospitals[A].person(Role.PHYSICIAN, story.patient_id)
    assert await outcome(story, person, Function.GET_OWN_EMR) is Code.ROLE_NOT_ALLOWED


FROM_ANOTHER_HOSPITAL = {
    Function.UPDATE_DEMOGRAPHICS: Code.EMR_NOT_OWNED,
    Function.REBIND_PATIENT_KEY: Code.EMR_NOT_OWNED,
    Function.READ_EMR: Code.EMR_NOT_OWNED,
    Function.GET_EMR_BY_PATIENT_ID: Code.EMR_NOT_FOUND,
    Function.ADD_EMR_NOTE: Code.EMR_NOT_OWNED,
    Function.AUTHORIZE_EMR_READING: Code.EMR_NOT_OWNED,
    Function.END_EMR_READING: Code.EMR_NOT_OWNED,
    Function.APPROVE_EMR_SHARING: Code.PATIENT_KEY_NOT_BOUND,
    Function.REMOVE_EMR_SHARING: Code.PATIENT_KEY_NOT_BOUND,
    Function.SHARE_EMR_SNAPSHOT: Code.EMR_NOT_OWNED,
    Function.EXPIRE_SHARING: Code.EMR_NOT_OWNED,
    Function.GET_SHARED_EMR: Code.ACCESS_NOT_GRANTED,
    Function.READ_SHARED_EMR: Code.RECEIPT_INVALID,
    Function.GET_OWN_EMR: Code.PATIENT_KEY_NOT_BOUND,
    Function.GET_MEDICAL_VISIT_COUNT: Code.PROVIDER_NOT_OWN,
    Function.GET_OWN_SHARINGS: Code.PATIENT_KEY_NOT_BOUND,
    Function.GET_OWN_DISCLOSURES: Code.PATIENT_KEY_NOT_BOUND,
    Function.REQUEST_ERASURE: Code.PATIENT_KEY_NOT_BOUND,
    Function.CANCEL_ERASURE: Code.PATIENT_KEY_NOT_BOUND,
    Function.ERASE_EMR: Code.EMR_NOT_OWNED,
}


@pytest.mark.parametrize("function", list(FROM_ANOTHER_HOSPITAL))
async def test_another_hospitals_people_of_the_right_role_are_refused(story: Story, function: Function) -> None:
    for role in sorted(WHO[function]):
        person = story.network.hospitals[B].person(role, story.patient_id if role is Role.PATIENT else None)
        assert await outcome(story, person, function) is FROM_ANOTHER_HOSPITAL[function], role


@pytest.mark.parametrize(
    "function", [function for function in Function if WHO[function] == {Role.PATIENT}], ids=lambda one: one.wire_name
)
async def test_another_patient_or_another_key_is_refused(story: Story, function: Function) -> None:
    stranger = story.network.hospitals[A].person(Role.PATIENT, new_id())
    impostor = story.network.hospitals[A].person(Role.PATIENT, story.patient_id)
    nameless = story.network.hospitals[A].person(Role.PATIENT)
    for person in (stranger, impostor, nameless):
        assert await outcome(story, person, function) is Code.PATIENT_KEY_NOT_BOUND


async def test_an_unknown_function_is_refused(network: ContractNetwork) -> None:
    for name in ("", "readEmr", "ReadEmr ", "__init__", "ReadEmr\x00"):
        call = network.evaluate(network.staff(A, Role.PHYSICIAN), name)
        assert await refusal_of(call) is Code.FUNCTION_UNKNOWN


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_a_time_far_from_the_endorsers_clock_is_refused(network: ContractNetwork, minutes: int) -> None:
    at = network.clock.now() + timedelta(minutes=minutes)
    call = network.evaluate(network.staff(A, Role.SERVICE), Function.LIST_ORGANIZATIONS, at=at)
    assert await refusal_of(call) is Code.TIMESTAMP_REFUSED


async def test_malformed_arguments_are_refused_and_not_repeated(story: Story) -> None:
    physician = story.staff(Role.PHYSICIAN)
    calls: list[tuple[str | bytes, ...]] = [
        (),
        ("canary",),
        (story.emr_id, "1", "1", "1"),
        (b"\xff" * 32,),
        ("canary" * 20_000,),
        (story.emr_id, "-1"),
        (f"{story.emr_id}\x00",),
    ]
    for arguments in calls:
        with pytest.raises(RefusedByContract) as caught:
            await story.network.evaluate(physician, Function.READ_EMR, *arguments)
        assert caught.value.code is Code.ARGUMENT_INVALID
        assert "canary" not in caught.value.refusal.text
