"""Who may do what, and what follows: decisions from values alone, without a ledger.

Every function either returns what is to be written or known, or raises ``Refused`` with the code that callers see.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import BoundKey, Emr, End, Event, Life, LifeState

from emr_chaincode.caller import Caller

LARGEST_CLOCK_DIFFERENCE = timedelta(minutes=5)
REBINDING_TAKES = timedelta(hours=24)
FIRST_REVISION = 1


def require_time(now: datetime, own_clock: datetime) -> None:
    """The client chooses a transaction's time; no endorser accepts one far from its own."""
    if abs(now - own_clock) > LARGEST_CLOCK_DIFFERENCE:
        raise Refused(Code.TIMESTAMP_REFUSED)


def require_role(caller: Caller, function: Function) -> None:
    if caller.role not in function.spec.roles:
        raise Refused(Code.ROLE_NOT_ALLOWED)


def require_owner(caller: Caller, emr: Emr) -> None:
    if caller.msp_id != emr.owner:
        raise Refused(Code.EMR_NOT_OWNED)


def require_other_hospital(owner_msp: str, recipient_msp: str) -> None:
    if owner_msp == recipient_msp:
        raise Refused(Code.SHARING_WITH_SELF)


def require_own_provider(caller: Caller, provider_msp: str) -> None:
    """At another hospital the patient has another id: there is nothing to count here."""
    if caller.msp_id != provider_msp:
        raise Refused(Code.PROVIDER_NOT_OWN)


def require_patient(caller: Caller, emr: Emr, now: datetime) -> None:
    """A patient's certificate counts only in the EMR's owner, for its patient, and with the key that is bound."""
    is_the_patient = caller.role is Role.PATIENT and caller.patient_id == emr.patient_id
    if not (is_the_patient and caller.msp_id == emr.owner and caller.key == bound_key(emr, now)):
        raise Refused(Code.PATIENT_KEY_NOT_BOUND)


def bound_key(emr: Emr, now: datetime) -> str:
    """The hash of the key that counts now."""
    if emr.next_patient_key is not None and now >= emr.next_patient_key.counts_from:
        return emr.next_patient_key.patient_key
    return emr.patient_key


def life_of(current: LifeState | None, history: Iterable[LifeState]) -> Life:
    """An erasure is for ever: a hospital that writes ``life~`` back, or deletes or spoils it, revives nothing."""
    if current is None or any(state.state is Life.ERASED for state in history):
        return Life.ERASED
    return current.state


def end_of(current: End | None, history: Iterable[End]) -> End | None:
    """What counts is the largest number that ever stood under ``end~``, also when it was written back or deleted."""
    ever = [*history, *([current] if current else [])]
    return max(ever, key=lambda end: end.number, default=None)


def require_not_erased(life: Life) -> None:
    """Care goes on while an erasure is only asked for."""
    if life is Life.ERASED:
        raise Refused(Code.EMR_ERASED)


def require_shareable(life: Life) -> None:
    """Nothing is shared or shown to others once the patient has asked for erasure."""
    require_not_erased(life)
    if life is Life.ERASURE_REQUESTED:
        raise Refused(Code.ERASURE_REQUESTED)


def create_emr(caller: Caller, patient_id: str, patient_key: str, commitment: str, sha256: str, now: datetime) -> Emr:
    """Whose staff creates an EMR, that hospital owns it."""
    return Emr(
        owner=caller.msp_id,
        patient_id=patient_id,
        patient_key=patient_key,
        next_patient_key=None,
        version=0,
        visits=0,
        demographics_revision=FIRST_REVISION,
        commitment=commitment,
        sha256=sha256,
        by=caller.enrolment_id,
        at=now,
        event=Event.EMR_CREATED,
    )


def rebind_patient_key(emr: Emr, new_key: str, caller: Caller, now: datetime) -> Emr:
    """The new key counts a day later, so that a patient can see it coming. Binding the key that counts withdraws
    another.
    """
    counting = bound_key(emr, now)
    following = None if new_key == counting else BoundKey(new_key, now + REBINDING_TAKES)
    return replace(
        emr,
        patient_key=counting,
        next_patient_key=following,
        by=caller.enrolment_id,
        at=now,
        event=Event.PATIENT_KEY_REBOUND,
    )


def update_demographics(
    emr: Emr, expected_revision: int, commitment: str, sha256: str, caller: Caller, now: datetime
) -> Emr:
    if expected_revision != emr.demographics_revision:
        raise Refused(
            Code.VERSION_CONFLICT, "the demographics have another revision", version=emr.demographics_revision
        )
    return replace(
        emr,
        demographics_revision=emr.demographics_revision + 1,
        commitment=commitment,
        sha256=sha256,
        by=caller.enrolment_id,
        at=now,
        event=Event.DEMOGRAPHICS_UPDATED,
    )


def add_note(
    emr: Emr, expected_version: int, known_version: int | None, *, is_visit: bool, caller: Caller, now: datetime
) -> Emr:
    """``known_version``: where the note stands already; looked at first, so that a repetition is told from a
    conflict.
    """
    if known_version is not None:
        raise Refused(Code.NOTE_ID_EXISTS, version=known_version)
    if expected_version != emr.version:
        raise Refused(Code.VERSION_CONFLICT, "the EMR has another version", version=emr.version)
    return replace(
        emr,
        version=emr.version + 1,
        visits=emr.visits + is_visit,
        by=caller.enrolment_id,
        at=now,
        event=Event.NOTE_ADDED,
    )


def request_erasure(life: Life, caller: Caller, now: datetime) -> LifeState:
    require_shareable(life)
    return LifeState(Life.ERASURE_REQUESTED, caller.enrolment_id, now, Event.ERASURE_REQUESTED)


def cancel_erasure(life: Life, caller: Caller, now: datetime) -> LifeState:
    _require_erasure_requested(life)
    return LifeState(Life.ACTIVE, caller.enrolment_id, now, Event.ERASURE_CANCELLED)


def erase(life: Life, caller: Caller, now: datetime) -> LifeState:
    _require_erasure_requested(life)
    return LifeState(Life.ERASED, caller.enrolment_id, now, Event.EMR_ERASED)


def _require_erasure_requested(life: Life) -> None:
    require_not_erased(life)
    if life is not Life.ERASURE_REQUESTED:
        raise Refused(Code.ERASURE_NOT_REQUESTED)
