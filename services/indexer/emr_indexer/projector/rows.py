"""From facts to rows of schema ``care``. Columns of JSON hold its text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emr_model.clinical.facts import CodedConcept
from emr_model.ledger import keys
from emr_model.ledger.events import Fact, LedgerEvent
from emr_model.ledger.values import Access, Disclosure, Emr, End, Life, Note, Organization

from emr_indexer.projector.changes import WITHOUT_CONTENT, Ended, Row
from emr_indexer.projector.contents import OpenedNote


def written_by(event: LedgerEvent) -> dict[str, Any]:
    return {"transaction_id": event.transaction_id, "block": event.block}


def recipient(event: LedgerEvent, fact: Fact) -> str:
    """The hospital that a sharing's fact is about."""
    return fact.recipient_msp if isinstance(fact, Disclosure) else event.attributes[1]


def organization(event: LedgerEvent, fact: Organization) -> Row:
    sealing_keys = json.dumps([key.to_wire() for key in fact.sealing_keys])
    return {"msp_id": event.attributes[0], "name": fact.name, "sealing_keys": sealing_keys, **written_by(event)}


def emr(event: LedgerEvent, fact: Emr, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """``known`` is the row so far: when it was created and whether it lives stay as they were."""
    following = fact.next_patient_key
    return {
        "emr_id": event.attributes[0],
        "owner_msp": fact.owner,
        "patient_id": fact.patient_id,
        "patient_key": fact.patient_key,
        "next_patient_key": following.patient_key if following else None,
        "next_patient_key_from": following.counts_from if following else None,
        "version": fact.version,
        "visits": fact.visits,
        "visit_transaction_id": _visit_transaction(event, fact, known),
        "life": known["life"] if known else Life.ACTIVE.value,
        "demographics_revision": fact.demographics_revision,
        "demographics_commitment": fact.commitment,
        "demographics_sha256": fact.sha256,
        "created_at": known["created_at"] if known else fact.at,
        **written_by(event),
    }


def _visit_transaction(event: LedgerEvent, fact: Emr, known: Mapping[str, Any] | None) -> str | None:
    """A note's own value does not tell whether it is a visit: its transaction counts one more, or not."""
    if known is None:
        return event.transaction_id if fact.visits else None
    return event.transaction_id if fact.visits > known["visits"] else known["visit_transaction_id"]


def note(event: LedgerEvent, fact: Note, emr_row: Mapping[str, Any], opened: OpenedNote | None) -> Row:
    return {
        "emr_id": event.attributes[0],
        "version": keys.number(event.attributes[1]),
        "note_id": fact.note_id,
        "is_visit": emr_row["visit_transaction_id"] == event.transaction_id,
        "author": fact.author,
        "at": fact.at,
        "commitment": fact.commitment,
        "sha256": fact.sha256,
        **(WITHOUT_CONTENT if opened is None else opened.columns),
        **written_by(event),
    }


def concept(emr_id: str, version: int, position: int, coded: CodedConcept) -> Row:
    """A row of ``condition`` or ``medication``."""
    return {
        "emr_id": emr_id,
        "version": version,
        "position": position,
        "system": coded.system,
        "code": coded.code,
        "display": coded.display,
    }


def sharing(event: LedgerEvent, fact: Access, emr_row: Mapping[str, Any]) -> Row:
    """All columns but those of an ending."""
    request, snapshot = fact.request, fact.snapshot
    owner, patient = fact.owner_approval, fact.patient_approval
    return {
        "emr_id": event.attributes[0],
        "recipient_msp": event.attributes[1],
        "number": fact.number,
        "owner_msp": emr_row["owner_msp"],
        "patient_id": emr_row["patient_id"],
        "requested_at": request.at if request else None,
        "requested_by": request.by if request else None,
        "request_purpose": request.purpose.value if request else None,
        "owner_approved_at": owner.at if owner else None,
        "owner_approved_by": owner.by if owner else None,
        "owner_approved_version": owner.version if owner else None,
        "recipient_key_id": owner.recipient_key_id if owner else None,
        "patient_approved_at": patient.at if patient else None,
        "patient_approved_by": patient.by if patient else None,
        "patient_approved_version": patient.version if patient else None,
        "expires_at": patient.expires_at if patient else None,
        "snapshot_at": snapshot.at if snapshot else None,
        "snapshot_version": snapshot.version if snapshot else None,
        "snapshot_sha256": snapshot.sha256 if snapshot else None,
        "snapshot_key_id": snapshot.recipient_key_id if snapshot else None,
        "access": fact.to_json().decode(),
        **written_by(event),
        "late_block": None,
    }


def ending(event: LedgerEvent, fact: End) -> Row:
    emr_id, recipient_msp = event.attributes
    return {"emr_id": emr_id, "recipient_msp": recipient_msp, "number": fact.number, "block": event.block}


def ended(event: LedgerEvent, fact: End) -> Ended:
    return Ended(
        emr_id=event.attributes[0],
        recipient_msp=event.attributes[1],
        number=fact.number,
        at=fact.at,
        by=fact.by,
        why=fact.why.value if fact.why else None,
        value=fact.to_wire(),
        transaction_id=event.transaction_id,
        block=event.block,
    )


def disclosure(event: LedgerEvent, fact: Disclosure, emr_row: Mapping[str, Any]) -> Row:
    return {
        "emr_id": event.attributes[0],
        "transaction_id": event.attributes[1],
        "owner_msp": emr_row["owner_msp"],
        "patient_id": emr_row["patient_id"],
        "recipient_msp": fact.recipient_msp,
        "number": fact.sharing,
        "version": fact.version,
        "reader": fact.reader,
        "purpose": fact.purpose.value,
        "at": fact.at,
        "block": event.block,
        "late_block": None,
    }
