"""Who may do what with an EMR: decisions from values alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from emr_chaincode import rules
from emr_chaincode.caller import Caller
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import BoundKey, Emr, End, Event, Life, LifeState
from hypothesis import given
from hypothesis import strategies as st
from support.access_tables import ROLE, AccessTables

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OLD_KEY, NEW_KEY = "a" * 64, "b" * 64
EMR = Emr("A", "patient", OLD_KEY, None, 4, 2, 1, "c" * 64, "d" * 64, "h-1", NOW, Event.EMR_CREATED)
PATIENT = Caller("A", "p-1", Role.PATIENT, OLD_KEY, "patient")
STAFF = Caller("A", "h-1", Role.HEALTHCENTER, "e" * 64)


def code_of(call: Callable[..., object], *arguments: object, **named: object) -> Code | None:
    try:
        call(*arguments, **named)
    except Refused as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize("function", list(Function))
@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_call_what_the_design_says(function: Function, role: Role) -> None:
    row = AccessTables.under("At the chaincode").by_person[function.wire_name]
    letter = "T" if role is Role.PATIENT else role[0].upper()
    expected = Code.ROLE_NOT_ALLOWED if row[f"{letter} a"] == row[f"{letter} b"] == ROLE else None
    assert code_of(rules.require_role, replace(STAFF, role=role), function) is expected


@pytest.mark.parametrize(
    ("apart", "expected"),
    [(timedelta(minutes=5), None), (timedelta(minutes=5, microseconds=1), Code.TIMESTAMP_REFUSED)],
)
def test_a_time_far_from_the_own_clock_is_refused_on_both_sides(apart: timedelta, expected: Code | None) -> None:
    assert code_of(rules.require_time, NOW + apart, NOW) is expected
    assert code_of(rules.require_time, NOW - apart, NOW) is expected


@pytest.mark.parametrize(
    "caller",
    [
        replace(PATIENT, msp_id="B"),
        replace(PATIENT, patient_id="another"),
        replace(PATIENT, patient_id=None),
        replace(PATIENT, key=NEW_KEY),
        replace(PATIENT, role=Role.PHYSICIAN),
    ],
)
def test_a_patients_certificate_counts_only_in_full(caller: Caller) -> None:
    assert code_of(rules.require_patient, caller, EMR, NOW) is Code.PATIENT_KEY_NOT_BOUND
    assert code_of(rules.require_patient, PATIENT, EMR, NOW) is None


@given(st.integers(0, 48 * 60))
def test_the_old_key_counts_for_a_day_and_then_the_new_one(minutes: int) -> None:
    rebound = rules.rebind_patient_key(EMR, NEW_KEY, STAFF, NOW)
    expected = NEW_KEY if minutes >= 24 * 60 else OLD_KEY
    assert rules.bound_key(rebound, NOW + timedelta(minutes=minutes)) == expected


def test_a_second_rebinding_starts_the_day_anew_and_keeps_the_key_that_counts() -> None:
    first = rules.rebind_patient_key(EMR, NEW_KEY, STAFF, NOW)
    second = rules.rebind_patient_key(first, "c" * 64, STAFF, NOW + timedelta(hours=23))
    assert rules.bound_key(second, NOW + timedelta(hours=25)) == OLD_KEY
    assert rules.bound_key(second, NOW + timedelta(hours=47)) == "c" * 64
    third = rules.rebind_patient_key(first, "c" * 64, STAFF, NOW + timedelta(hours=25))
    assert third.patient_key == NEW_KEY


def test_binding_the_key_that_counts_withdraws_a_rebinding() -> None:
    rebound = rules.rebind_patient_key(EMR, NEW_KEY, STAFF, NOW)
    withdrawn = rules.rebind_patient_key(rebound, OLD_KEY, STAFF, NOW)
    assert withdrawn.next_patient_key is None
    assert rebound.next_patient_key == BoundKey(NEW_KEY, NOW + timedelta(hours=24))


def test_a_note_goes_on_the_current_version() -> None:
    added = rules.add_note(EMR, 4, None, is_visit=True, caller=STAFF, now=NOW)
    assert (added.version, added.visits) == (5, 3)
    assert rules.add_note(EMR, 4, None, is_visit=False, caller=STAFF, now=NOW).visits == 2


@pytest.mark.parametrize("expected_version", [0, 3, 5])
def test_a_note_on_another_version_is_told_the_current_one(expected_version: int) -> None:
    with pytest.raises(Refused) as caught:
        rules.add_note(EMR, expected_version, None, is_visit=False, caller=STAFF, now=NOW)
    assert (caught.value.code, caught.value.version) == (Code.VERSION_CONFLICT, 4)


@pytest.mark.parametrize("expected_version", [0, 4])
def test_a_known_note_is_told_where_it_stands_whatever_the_version(expected_version: int) -> None:
    with pytest.raises(Refused) as caught:
        rules.add_note(EMR, expected_version, 2, is_visit=False, caller=STAFF, now=NOW)
    assert (caught.value.code, caught.value.version) == (Code.NOTE_ID_EXISTS, 2)


def life(state: Life) -> LifeState:
    return LifeState(state, "p-1", NOW, Event.EMR_CREATED)


@given(st.lists(st.sampled_from(Life)), st.sampled_from(Life))
def test_whatever_is_written_after_it_an_erasure_stays(before: list[Life], current: Life) -> None:
    history = [life(state) for state in (current, *before)]
    expected = Life.ERASED if Life.ERASED in (current, *before) else current
    assert rules.life_of(life(current), history) is expected


def test_a_deleted_life_is_no_life() -> None:
    assert rules.life_of(None, [life(Life.ACTIVE)]) is Life.ERASED


@given(st.lists(st.integers(0, 9)), st.none() | st.integers(0, 9))
def test_an_ending_that_is_written_back_or_deleted_still_counts(before: list[int], current: int | None) -> None:
    def end(number: int) -> End:
        return End(number, None, None, NOW, Event.SHARING_OPENED)

    largest = rules.end_of(None if current is None else end(current), [end(number) for number in before])
    numbers = before + ([] if current is None else [current])
    assert (largest.number if largest else None) == max(numbers, default=None)


@pytest.mark.parametrize(
    ("state", "request_", "cancel", "erase"),
    [
        (Life.ACTIVE, None, Code.ERASURE_NOT_REQUESTED, Code.ERASURE_NOT_REQUESTED),
        (Life.ERASURE_REQUESTED, Code.ERASURE_REQUESTED, None, None),
        (Life.ERASED, Code.EMR_ERASED, Code.EMR_ERASED, Code.EMR_ERASED),
    ],
)
def test_erasure_goes_step_by_step(state: Life, request_: Code | None, cancel: Code | None, erase: Code | None) -> None:
    assert code_of(rules.request_erasure, state, PATIENT, NOW) is request_
    assert code_of(rules.cancel_erasure, state, PATIENT, NOW) is cancel
    assert code_of(rules.erase, state, STAFF, NOW) is erase


def test_care_goes_on_while_erasure_is_asked_for_and_sharing_does_not() -> None:
    assert code_of(rules.require_not_erased, Life.ERASURE_REQUESTED) is None
    assert code_of(rules.require_shareable, Life.ERASURE_REQUESTED) is Code.ERASURE_REQUESTED
    assert code_of(rules.require_shareable, Life.ERASED) is Code.EMR_ERASED


def test_a_hospital_is_told_from_another() -> None:
    assert code_of(rules.require_owner, replace(STAFF, msp_id="B"), EMR) is Code.EMR_NOT_OWNED
    assert code_of(rules.require_own_provider, PATIENT, "B") is Code.PROVIDER_NOT_OWN
    assert code_of(rules.require_other_hospital, "A", "A") is Code.SHARING_WITH_SELF
    assert code_of(rules.require_other_hospital, "A", "B") is None


def test_demographics_go_on_the_current_revision() -> None:
    updated = rules.update_demographics(EMR, 1, "1" * 64, "2" * 64, STAFF, NOW)
    assert (updated.demographics_revision, updated.commitment, updated.sha256) == (2, "1" * 64, "2" * 64)
    assert code_of(rules.update_demographics, EMR, 2, "", "", STAFF, NOW) is Code.VERSION_CONFLICT
