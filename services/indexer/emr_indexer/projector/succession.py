"""Whether a fact that the owner endorsed carries on what was believed before it.

Where a majority suffices, others can write a fact without its owner. The contract's next transaction goes on from
there, and the owner's peer endorses it in good faith: everything that it carries on would pass for the owner's word. So
a fact may change only what its event is about, and the rest must be what the row says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emr_model.ledger.values import Access, Emr, Event

_STEPS = {
    Event.ACCESS_REQUESTED: "request",
    Event.OWNER_APPROVED: "owner_approval",
    Event.PATIENT_APPROVED: "patient_approval",
    Event.SNAPSHOT_SHARED: "snapshot",
}
"""What of a sharing an event is about."""


def emr_follows(known: Mapping[str, Any] | None, fact: Emr) -> bool:
    """``known`` is the row of ``care.emr``, None before there is one."""
    if known is None:
        return fact.event is Event.EMR_CREATED
    has_same_notes = (fact.version, fact.visits) == (known["version"], known["visits"])
    match fact.event:
        case Event.NOTE_ADDED:
            is_next = fact.version == known["version"] + 1 and fact.visits - known["visits"] in (0, 1)
            return is_next and _has_same_demographics(known, fact) and _has_same_keys(known, fact)
        case Event.DEMOGRAPHICS_UPDATED:
            is_next = fact.demographics_revision == known["demographics_revision"] + 1
            return is_next and has_same_notes and _has_same_keys(known, fact)
        case Event.PATIENT_KEY_REBOUND:
            is_next = fact.patient_key == _counting_key(known, fact)
            return is_next and has_same_notes and _has_same_demographics(known, fact)
    return False


def access_follows(known: Access | None, fact: Access) -> bool:
    """``known`` is what was believed last of sharings between the two. A new sharing takes nothing over from it."""
    if known is not None and fact.number < known.number:
        return False
    before = known if known is not None and known.number == fact.number else None
    others = [step for step in _STEPS.values() if step != _STEPS.get(fact.event)]
    return all(getattr(fact, step) == (getattr(before, step) if before else None) for step in others)


def _has_same_demographics(known: Mapping[str, Any], fact: Emr) -> bool:
    return (fact.demographics_revision, fact.commitment, fact.sha256) == (
        known["demographics_revision"],
        known["demographics_commitment"],
        known["demographics_sha256"],
    )


def _has_same_keys(known: Mapping[str, Any], fact: Emr) -> bool:
    following = fact.next_patient_key
    return (fact.patient_key, following and following.patient_key, following and following.counts_from) == (
        known["patient_key"],
        known["next_patient_key"],
        known["next_patient_key_from"],
    )


def _counting_key(known: Mapping[str, Any], fact: Emr) -> str:
    """The one that counted when the fact was written."""
    counts_from = known["next_patient_key_from"]
    has_next = counts_from is not None and fact.at >= counts_from
    return str(known["next_patient_key"] if has_next else known["patient_key"])
