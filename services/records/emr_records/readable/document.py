"""What the PDF shows, as plain data for the template ``emr.typ``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from emr_common.contents import OpenedEmr, OpenedNote
from emr_model.clinical.canonical import JsonObject, parse_object
from emr_model.clinical.facts import note_facts, note_text
from emr_model.clinical.note_form import NoteKind

from emr_records.readable.resources import concept, day, lines

TITLES = {
    NoteKind.ENCOUNTER: "Visit",
    NoteKind.BACKGROUND: "Background",
    NoteKind.AMENDMENT: "Amendment",
    NoteKind.TEXT: "Note",
}


@dataclass(frozen=True)
class Access:
    """One read: of the own hospital's access log, or another hospital's receipt."""

    at: datetime
    hospital: str
    reader: str
    role: str
    action: str
    purpose: str | None


@dataclass(frozen=True)
class Placed:
    """Where a note stands on the ledger, as the read model knows it."""

    transaction_id: str
    block: int


def document(
    opened: OpenedEmr, hospital: str, channel: str, placed: Mapping[int, Placed], accesses: Sequence[Access]
) -> dict[str, Any]:
    """Raises ValueError for content that is no note, which verified content cannot be."""
    patient = parse_object(opened.demographics.canonical)
    return {
        "title": f"Medical record of {_name(patient)}",
        "hospital": hospital,
        "channel": channel,
        "patient": _rows(
            ("Name", _name(patient)),
            ("Date of birth", day(patient.get("birthDate"))),
            ("Sex", str(patient.get("gender") or "")),
            ("Hospital", hospital),
            ("Record", opened.emr_id),
            ("Notes", f"{len(opened.notes)}, of these visits: {opened.emr.visits}"),
        ),
        "notes": [_note(note) for note in opened.notes],
        "proofs": [_proof(note, placed.get(note.view.version)) for note in opened.notes],
        "accesses": [
            [_moment(access.at), access.hospital, f"{access.role} {access.reader}", access.action, access.purpose or ""]
            for access in accesses
        ],
    }


def _note(note: OpenedNote) -> dict[str, Any]:
    content = parse_object(note.content.canonical)
    facts = note_facts(content)
    resources = [entry["resource"] for entry in content.get("entry", [])]
    encounter = next((one for one in resources if one.get("resourceType") == "Encounter"), None)
    what = TITLES[facts.kind] if encounter is None else concept(encounter.get("type")) or TITLES[facts.kind]
    when = f"{facts.period_start:%Y-%m-%d}" if facts.period_start else f"{note.view.at:%Y-%m-%d}"
    typed = note_text(content)
    return {
        "title": f"{note.view.version}. {what}, {when}",
        "subtitle": f"{TITLES[facts.kind]}, added on {_moment(note.view.at)} UTC by {note.view.author}",
        "text": typed.split("\n\n") if typed else [],
        "rows": [list(line) for line in lines(resources)],
    }


def _proof(note: OpenedNote, placed: Placed | None) -> dict[str, Any]:
    view = note.view
    where = [] if placed is None else [("transaction", placed.transaction_id), ("block", str(placed.block))]
    return {
        "title": f"Note {view.version}",
        "rows": _rows(("note id", view.note_id), ("commitment", view.commitment), ("sha256", view.sha256), *where),
    }


def _name(patient: JsonObject) -> str:
    names = patient.get("name") or [{}]
    name = names[0]
    own = [*(name.get("given") or []), name.get("family") or ""]
    return " ".join(filter(None, own)) or str(name.get("text") or "an unnamed patient")


def _rows(*rows: tuple[str, str]) -> list[list[str]]:
    return [list(row) for row in rows if row[1]]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
