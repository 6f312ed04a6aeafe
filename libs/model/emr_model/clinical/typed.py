"""Typed notes and amendments: the form of every note, around a DocumentReference or corrected resources."""

from __future__ import annotations

import base64
import uuid
from typing import Any

from emr_model.clinical.bundle import Entry, read_bundle
from emr_model.clinical.canonical import JsonObject, canonical_bytes
from emr_model.clinical.errors import NoteInvalid
from emr_model.clinical.limits import NOTE_MAX_BYTES, TEXT_MAX_CHARACTERS
from emr_model.clinical.note_form import NoteKind, note_bundle
from emr_model.clinical.notes import NoteContent
from emr_model.clinical.validation import ResourceProblem, Validator


class AmendmentRefused(NoteInvalid):
    """Resources of an amendment do not validate; ``problems`` says which and why."""

    def __init__(self, problems: tuple[ResourceProblem, ...]) -> None:
        super().__init__("resources of the amendment do not validate")
        self.problems = problems


def text_note(note_id: str, text: str, title: str | None = None) -> NoteContent:
    """A typed text wrapped as a DocumentReference.

    It carries no time: the ledger has it, and a repeated request must give equal bytes.

    Raises NoteInvalid for an empty or too long text.
    """
    return _note(NoteKind.TEXT, [_document(note_id, text, title, amends=None)], amends=None)


def text_amendment(note_id: str, amends: str, text: str, title: str | None = None) -> NoteContent:
    """Like ``text_note``, about an earlier note. Raises NoteInvalid."""
    return _note(NoteKind.AMENDMENT, [_document(note_id, text, title, amends=amends)], amends=amends)


def bundle_amendment(amends: str, value: Any) -> NoteContent:
    """The resources of a parsed FHIR Bundle as they are to read now.

    Raises BundleMalformed, NoteInvalid, or AmendmentRefused with every mistake.
    """
    entries = read_bundle(value).entries
    if not entries:
        raise NoteInvalid("the amendment has no resources")
    validator = Validator()
    problems = tuple(problem for entry in entries for problem in validator.problems(entry))
    if problems:
        raise AmendmentRefused(problems)
    return _note(NoteKind.AMENDMENT, list(entries), amends=amends)


def _document(note_id: str, text: str, title: str | None, *, amends: str | None) -> Entry:
    if not text.strip() or len(text) > TEXT_MAX_CHARACTERS:
        raise NoteInvalid(f"a note's text has 1 to {TEXT_MAX_CHARACTERS} characters")
    attachment: JsonObject = {
        "contentType": "text/plain; charset=utf-8",
        "data": base64.b64encode(text.encode("utf-8")).decode("ascii"),
    }
    if title is not None:
        attachment["title"] = title
    resource: JsonObject = {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": attachment}],
    }
    if amends is not None:
        resource["relatesTo"] = [{"code": "appends", "target": {"reference": _urn(amends)}}]
    return Entry(0, _urn(note_id), resource)


def _urn(note_id: str) -> str:
    return uuid.UUID(hex=note_id).urn


def _note(kind: NoteKind, entries: list[Entry], *, amends: str | None) -> NoteContent:
    content = canonical_bytes(note_bundle(kind, entries, amends=amends))
    if len(content) > NOTE_MAX_BYTES:
        raise NoteInvalid(f"the note is over {NOTE_MAX_BYTES} bytes")
    return NoteContent(kind, content, entries=len(entries))
