"""What readers are answered. Content goes out as the bytes that were verified, never serialized again."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from emr_common.contents import OpenedEmr, OpenedNote
from emr_model.clinical.canonical import parse_object
from emr_model.clinical.note_form import note_kind
from emr_model.clinical.snapshot import Snapshot, SnapshotNote
from emr_model.ledger.answers import DisclosureView, EmrFound, EmrView, SharedEmr
from fastapi import Response
from pydantic.alias_generators import to_camel

from emr_records.content import OpenedHeader
from emr_records.searching import Hits

FHIR_JSON = "application/fhir+json"
EMR_SYSTEM = "urn:careledger:emr"


def json_response(answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(answer), 200, headers, "application/json")


def emr_version_tag(view: EmrView) -> dict[str, str]:
    """What ``If-Match`` takes when a note is added."""
    return {"ETag": f'"{view.emr.version}"'}


def emr(header: OpenedHeader) -> dict[str, Any]:
    """Schema ``EmrOut``."""
    return {
        **_facts(header.view),
        "demographicsRevision": header.view.emr.demographics_revision,
        "demographics": orjson.Fragment(header.demographics.canonical),
    }


def emr_found(found: EmrFound) -> dict[str, Any]:
    """Schema ``EmrFoundOut``."""
    return _facts(found)


def notes(view: EmrView, opened: list[OpenedNote]) -> dict[str, Any]:
    """Schema ``NotesOut``."""
    return {
        "emrId": view.emr_id,
        "version": view.emr.version,
        "notes": [note(each) for each in opened],
        "next": view.next,
    }


def emr_page(view: EmrView, header: OpenedHeader | None, opened: list[OpenedNote]) -> dict[str, Any]:
    """``emr`` and ``notes`` in one, the demographics on the first page only."""
    facts = _facts(view) if header is None else emr(header)
    return {**facts, "notes": [note(each) for each in opened], "next": view.next}


def note(opened: OpenedNote) -> dict[str, Any]:
    """Schema ``NoteOut``."""
    view = opened.view
    return {
        "version": view.version,
        "noteId": view.note_id,
        "kind": _kind(opened.content.canonical),
        "author": view.author,
        "at": view.at,
        "commitment": view.commitment,
        "sha256": view.sha256,
        "salt": _base64(opened.content.salt),
        "content": orjson.Fragment(opened.content.canonical),
    }


def shared_emr(shared: SharedEmr, snapshot: Snapshot) -> dict[str, Any]:
    """Schema ``SharedEmrOut``."""
    return {
        "receipt": shared.receipt,
        "emrId": shared.emr_id,
        "ownerMsp": shared.owner_msp,
        "sharing": shared.sharing,
        "version": shared.version,
        "purpose": shared.purpose.value,
        "disclosedAt": shared.disclosed_at,
        "sharedAt": shared.shared_at,
        "sha256": shared.sha256,
        "demographicsRevision": snapshot.demographics.revision,
        "demographics": orjson.Fragment(snapshot.demographics.content),
        "notes": [
            _shared_note(note, public.commitment) for note, public in zip(snapshot.notes, shared.notes, strict=True)
        ],
    }


def whole_emr(opened: OpenedEmr) -> Response:
    """An EMR as one FHIR Bundle: the Patient, then every note as the Bundle it is, so that each can be verified."""
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "identifier": {"system": EMR_SYSTEM, "value": opened.emr_id},
        "entry": [
            {"fullUrl": _patient_url(opened), "resource": orjson.Fragment(opened.demographics.canonical)},
            *(
                {"fullUrl": _urn(each.view.note_id), "resource": orjson.Fragment(each.content.canonical)}
                for each in opened.notes
            ),
        ],
    }
    headers = {"Content-Disposition": 'attachment; filename="emr.json"'}
    return Response(orjson.dumps(bundle), 200, headers, FHIR_JSON)


def hits(found: Hits) -> dict[str, Any]:
    """Schema ``SearchOut``."""
    parked = found.parked
    rows = [
        {to_camel(str(name)): value for name, value in row.items()} | {"isParked": row["emr_id"] in parked.shown}
        for row in found.rows
    ]
    waiting = {"isComplete": not parked.count, "parkedEmrs": parked.count, "parkedEmrIds": parked.emr_ids}
    return {"emrs": rows, "as_of_block": found.as_of_block, "next": found.next, **waiting}


def own_disclosure(view: DisclosureView) -> dict[str, Any]:
    """Schema ``OwnDisclosureOut``."""
    read = view.disclosure
    return {
        "receipt": view.receipt,
        "recipientMsp": read.recipient_msp,
        "sharing": read.sharing,
        "version": read.version,
        "reader": read.reader,
        "purpose": read.purpose,
        "at": read.at,
    }


def _facts(view: EmrView | EmrFound) -> dict[str, Any]:
    return {
        "emrId": view.emr_id,
        "ownerMsp": view.emr.owner,
        "patientId": view.emr.patient_id,
        "life": view.life.value,
        "version": view.emr.version,
        "visits": view.emr.visits,
    }


def _shared_note(note: SnapshotNote, commitment: str) -> dict[str, Any]:
    return {
        "version": note.version,
        "noteId": note.note_id,
        "kind": _kind(note.content),
        "commitment": commitment,
        "salt": _base64(note.salt),
        "content": orjson.Fragment(note.content),
    }


def _patient_url(opened: OpenedEmr) -> str:
    """Where the notes' resources refer to, when that is a UUID as most systems have it; else the ledger's id."""
    resource_id = parse_object(opened.demographics.canonical).get("id")
    try:
        return uuid.UUID(resource_id).urn if isinstance(resource_id, str) else _urn(opened.emr.patient_id)
    except ValueError:
        return _urn(opened.emr.patient_id)


def _urn(ledger_id: str) -> str:
    return uuid.UUID(hex=ledger_id).urn


def _kind(content: bytes) -> str:
    return note_kind(parse_object(content)).value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
