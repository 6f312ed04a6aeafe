"""Role × function × hospital × sharing state at the contract itself, with valid certificates: the tables of
``docs/security.md``, cell by cell.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import pytest
from emr_chaincode.contract import HANDLERS
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.errors import HlfError
from hlf.identity import SigningIdentity
from support.access_tables import ANSWERED, AccessTables
from support.contract_network import A, B, ContractNetwork, RefusedByContract, key_of, new_id, refusal_of, sha256
from support.contract_stories import COMMITMENT, Story, profile

SEALED = b"sealed"
TABLES = AccessTables.under("At the chaincode")
STATES = {
    "none": (),
    "requested": ("request",),
    "awaiting patient": ("request", "authorize"),
    "awaiting owner": ("request", "approve"),
    "approved": ("request", "authorize", "approve"),
    "shared": ("request", "share_all", "disclose"),
    "ended": ("request", "share_all", "disclose", "remove"),
    "expired": ("request", "share_all", "disclose"),
    "erasing": ("request", "share_all", "disclose", "ask_for_erasure"),
    "erased": ("request", "share_all", "disclose", "erase"),
}


@dataclass(frozen=True)
class Example:
    """A call of proper form."""

    arguments: tuple[str, ...]
    transient: Mapping[str, bytes]


@dataclass
class Case:
    """An EMR in a state, and everybody who may call. ``receipt`` is of B's physician, or of nobody."""

    story: Story
    receipt: str
    people: Mapping[str, SigningIdentity]

    def example(self, function: Function) -> Example:
        emr, patient, digest = self.story.emr_id, self.story.patient_id, sha256(SEALED)
        arguments: dict[Function, tuple[str, ...]] = {
            Function.REGISTER_ORGANIZATION: (profile("Hospital"),),
            Function.GET_ORGANIZATION: (A,),
            Function.CREATE_EMR: (new_id(), new_id(), key_of(self.story.patient), COMMITMENT, digest),
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
            Function.READ_SHARED_EMR: (self.receipt,),
            Function.LIST_PURGEABLE_SNAPSHOTS: (emr,),
            Function.PURGE_SNAPSHOTS: (emr, json.dumps(["1~0"])),
            Function.GET_MEDICAL_VISIT_COUNT: (A,),
            Function.ERASE_EMR: (emr,),
        }
        name = function.spec.transient
        return Example(arguments.get(function, ()), {name: SEALED} if name else {})

    async def outcome(self, person: SigningIdentity, function: Function) -> str:
        """The code of a refusal, or ``ANSWERED``. Nothing is committed."""
        call = self.example(function)
        try:
            await self.story.network.evaluate(person, function, *call.arguments, transient=call.transient)
        except RefusedByContract as refusal:
            return refusal.code.name
        return ANSWERED


@pytest.fixture(scope="session")
async def cases(network: ContractNetwork) -> Mapping[str, Case]:
    """One a state. The one that expires does so ten minutes ago."""
    network.clock.ahead = -timedelta(minutes=10)
    expired = await _case(network, "expired")
    network.clock.ahead = timedelta(0)
    others = [state for state in STATES if state != "expired"]
    made = await asyncio.gather(*(_case(network, state) for state in others))
    return {"expired": expired, **dict(zip(others, made, strict=True))}


async def _case(network: ContractNetwork, state: str) -> Case:
    story = await Story.begin(network)
    receipt = f"{story.emr_id}.{sha256(os.urandom(8))}"
    for step in STATES[state]:
        if step == "disclose":
            receipt = (await story.disclose()).receipt
        elif step == "ask_for_erasure":
            await network.submit(story.patient, Function.REQUEST_ERASURE)
        elif state == "expired" and step == "share_all":
            await story.share_all(expires_at=network.clock.now() + timedelta(minutes=5))
        else:
            await getattr(story, step)()
    return Case(story, receipt, _people(story))


def _people(story: Story) -> dict[str, SigningIdentity]:
    """By the columns of the table."""
    letters = {"H": Role.HEALTHCENTER, "P": Role.PHYSICIAN, "A": Role.ADMIN, "S": Role.SERVICE}
    hospitals = story.network.hospitals
    return {
        **{f"{letter} {name}": story.staff(role, msp) for letter, role in letters.items() for name, msp in _MSP_IDS},
        "T a": story.patient,
        "T b": hospitals[B].person(Role.PATIENT, story.patient_id),
        "T other": hospitals[A].person(Role.PATIENT, new_id()),
        "T second": hospitals[A].person(Role.PATIENT, story.patient_id),
        "none": hospitals[A].person(None),
    }


_MSP_IDS = (("a", A), ("b", B))


@pytest.mark.parametrize("function", list(Function), ids=lambda one: one.wire_name)
async def test_whoever_calls_is_answered_as_the_tables_say(cases: Mapping[str, Case], function: Function) -> None:
    calls = {
        (state, name): case.outcome(person, function)
        for state, case in cases.items()
        for name, person in case.people.items()
    }
    outcomes = dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))
    assert outcomes == {(state, name): TABLES.expected(function.wire_name, name, state) for state, name in calls}


def test_the_tables_have_every_function_person_and_state_and_no_other() -> None:
    assert set(TABLES.by_person) == {function.wire_name for function in HANDLERS}
    assert set(TABLES.states) == set(STATES)
    assert TABLES.rows_without_use() == set()


async def test_the_tables_columns_are_the_people_who_call(cases: Mapping[str, Case]) -> None:
    assert set(cases["none"].people) == set(TABLES.people)


async def test_a_second_certificate_for_the_bound_key_is_the_patients(story: Story) -> None:
    """As after a renewal: the key counts, not the certificate."""
    member = story.network.hospitals[A].member
    attributes = {"emr.role": str(Role.PATIENT), "emr.patientId": story.patient_id}
    certificate = member.authority.issue(
        "renewed", story.patient.private_key.public_key(), organizational_units=["client"], attributes=attributes
    )
    renewed = SigningIdentity(A, certificate_to_pem(certificate), story.patient.private_key)
    await story.network.evaluate(renewed, Function.GET_OWN_EMR)


@pytest.mark.parametrize("role", list(Role))
async def test_a_certificate_of_a_namesake_authority_does_not_come_to_the_contract(story: Story, role: Role) -> None:
    """The authority has the name of the hospital's own, and another key."""
    key = new_private_key()
    attributes = {"emr.role": str(role), "emr.patientId": story.patient_id}
    certificate = CertificateAuthority.create(f"ca.{A}", A).issue(
        "x", key.public_key(), organizational_units=["client"], attributes=attributes
    )
    forged = SigningIdentity(A, certificate_to_pem(certificate), key)
    for function in (Function.LIST_ORGANIZATIONS, Function.READ_EMR, Function.GET_OWN_EMR):
        arguments = (story.emr_id,) if function is Function.READ_EMR else ()
        with pytest.raises(HlfError) as caught:
            await story.network.evaluate(forged, function, *arguments)
        assert caught.value.chaincode_response is None


@pytest.mark.parametrize("attribute", ["", "superuser", "Physician", "physician "])
async def test_a_certificate_without_a_known_role_may_nothing(cases: Mapping[str, Case], attribute: str) -> None:
    case = cases["shared"]
    person = case.story.network.hospitals[A].person(attribute)
    outcomes = await asyncio.gather(*(case.outcome(person, function) for function in Function))
    assert set(outcomes) == {Code.ROLE_NOT_ALLOWED.name}


async def test_a_role_beside_a_patient_id_makes_no_patient(cases: Mapping[str, Case]) -> None:
    case = cases["shared"]
    person = case.story.network.hospitals[A].person(Role.PHYSICIAN, case.story.patient_id)
    assert await case.outcome(person, Function.GET_OWN_EMR) == Code.ROLE_NOT_ALLOWED.name


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
