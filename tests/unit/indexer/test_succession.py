"""Every step of the contract carries on what was believed; a step from any other state does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from emr_chaincode import rules, sharing_rules
from emr_chaincode.caller import Caller
from emr_indexer.projector import rows
from emr_indexer.projector.succession import access_follows, emr_follows
from emr_model.ledger.events import LedgerEvent
from emr_model.ledger.functions import Role
from emr_model.ledger.keys import ObjectType
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    BoundKey,
    Emr,
    End,
    EndReason,
    Event,
    OwnerApproval,
    PatientApproval,
)

NOW = datetime(2026, 3, 4, 10, tzinfo=UTC)
LATER, MUCH_LATER = NOW + timedelta(days=2), NOW + timedelta(days=9)
CLERK = Caller("HospitalA", "h-1", Role.HEALTHCENTER, "k")
KEYS = {name: name * 64 for name in "abcdef"}

CREATED = rules.create_emr(CLERK, "p", KEYS["a"], KEYS["c"], KEYS["d"], NOW)
NOTED = rules.add_note(CREATED, 0, None, is_visit=True, caller=CLERK, now=NOW)
BOUND = rules.rebind_patient_key(NOTED, KEYS["b"], CLERK, NOW)

STEPS: dict[str, Callable[[Emr], Emr]] = {
    "a note": lambda emr: rules.add_note(emr, emr.version, None, is_visit=False, caller=CLERK, now=LATER),
    "a visit": lambda emr: rules.add_note(emr, emr.version, None, is_visit=True, caller=CLERK, now=LATER),
    "demographics": lambda emr: rules.update_demographics(
        emr, emr.demographics_revision, KEYS["e"], KEYS["f"], CLERK, LATER
    ),
    "another key": lambda emr: rules.rebind_patient_key(emr, KEYS["e"], CLERK, LATER),
}
FORGERIES: dict[str, Callable[[Emr], Emr]] = {
    "the patient's key": lambda emr: replace(emr, patient_key=KEYS["f"], next_patient_key=None),
    "the next key": lambda emr: replace(emr, next_patient_key=BoundKey(KEYS["f"], NOW + timedelta(days=1))),
    "a key that does not count yet": lambda emr: replace(emr, next_patient_key=BoundKey(KEYS["f"], MUCH_LATER)),
    "when the next key counts": lambda emr: replace(emr, next_patient_key=BoundKey(KEYS["b"], NOW)),
    "a note more": lambda emr: replace(emr, version=emr.version + 1),
    "a note less": lambda emr: replace(emr, version=emr.version - 1),
    "visits": lambda emr: replace(emr, visits=emr.visits + 5),
    "the demographics": lambda emr: replace(emr, commitment=KEYS["f"], sha256=KEYS["f"]),
    "their revision": lambda emr: replace(emr, demographics_revision=7),
}
REPLACED = {("demographics", "the demographics"), ("another key", "a key that does not count yet")}
"""The step writes these itself: nothing of the forgery is left."""


def row(emr: Emr) -> dict[str, Any]:
    event = LedgerEvent("care", 1, 0, 0, "t", NOW, ObjectType.EMR, ("e",), "", None, "HospitalA", "h-1", ("HospitalA",))
    return rows.emr(event, emr, None)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [CREATED, NOTED, BOUND], ids=["created", "with a note", "with a key to come"])
def test_every_step_of_the_contract_follows(before: Emr, step: str) -> None:
    assert emr_follows(row(before), STEPS[step](before))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_step_from_a_forged_state_does_not(step: str, forgery: str) -> None:
    before = rules.rebind_patient_key(NOTED, KEYS["b"], CLERK, LATER)
    forged = FORGERIES[forgery](before)
    assert emr_follows(row(before), STEPS[step](forged)) == ((step, forgery) in REPLACED)


def test_an_emr_begins_with_its_creation_and_does_so_once() -> None:
    assert emr_follows(None, CREATED)
    assert not emr_follows(None, NOTED)
    assert not emr_follows(row(NOTED), CREATED)


REQUEST = AccessRequest("d-2", Purpose.TREATMENT, NOW)
BY_OWNER, BY_PATIENT = OwnerApproval("h-1", 1, "key-1", NOW), PatientApproval("p-1", 1, None, NOW)


def shared() -> list[Access]:
    """Each step of a sharing from its request on."""
    requested = sharing_rules.request_access(None, None, REQUEST)
    approved = sharing_rules.approve_as_owner(requested, None, BY_OWNER, 1)
    both = sharing_rules.approve_as_patient(approved, None, BY_PATIENT, 1)
    snapshot = sharing_rules.share_snapshot(both, None, 1, KEYS["a"], NOW)
    again = sharing_rules.approve_as_owner(snapshot, None, OwnerApproval("h-1", 2, "key-1", NOW), 2)
    ended = End(1, "p-1", EndReason.REMOVED_BY_PATIENT, NOW, Event.SHARING_ENDED_BY_PATIENT)
    anew = sharing_rules.approve_as_patient(again, ended, BY_PATIENT, 1)
    return [requested, approved, both, snapshot, again, anew]


def test_every_step_of_a_sharing_follows_the_one_before_and_no_other() -> None:
    steps = shared()
    for place, step in enumerate(steps):
        assert access_follows(steps[place - 1] if place else None, step)
    assert steps[-1].number == 2
    assert not access_follows(steps[-1], steps[0])
    for place in (1, 2, 3, 4):
        assert not access_follows(None, steps[place])


@pytest.mark.parametrize("given", ["patient_approval", "owner_approval", "request", "snapshot"])
def test_a_step_that_carries_on_what_others_wrote_does_not_follow(given: str) -> None:
    requested, _, _, with_snapshot, *_ = shared()
    forged = replace(requested, **{given: getattr(with_snapshot, given)}, event=Event.PATIENT_APPROVED)
    if given == "request":
        forged = replace(forged, request=replace(REQUEST, by="somebody"))
    step = sharing_rules.approve_as_owner(forged, None, BY_OWNER, 1)
    assert access_follows(requested, step) == (given == "owner_approval")
    assert not access_follows(None, step)
