"""The form of every note: a FHIR Bundle of type ``collection`` whose tags say what kind of note it is."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from emr_model.clinical.bundle import Entry
from emr_model.clinical.canonical import JsonObject

KIND_SYSTEM = "urn:careledger:note-kind"
AMENDS_SYSTEM = "urn:careledger:amends"


class NoteKind(Enum):
    """What a note is. It stands inside the sealed bytes: the ledger only knows whether a note is a visit."""

    ENCOUNTER = "encounter"
    BACKGROUND = "background"
    AMENDMENT = "amendment"
    TEXT = "text"


def note_bundle(kind: NoteKind, entries: Iterable[Entry], *, amends: str | None = None) -> JsonObject:
    """A note's Bundle: the Encounter's entry first, then by resourceType and fullUrl; resources as they came in."""
    tags = [{"system": KIND_SYSTEM, "code": kind.value}]
    if amends is not None:
        tags.append({"system": AMENDS_SYSTEM, "code": amends})
    ordered = sorted(entries, key=_order)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "meta": {"tag": tags},
        "entry": [{"fullUrl": entry.full_url, "resource": entry.resource} for entry in ordered],
    }


def note_kind(note: JsonObject) -> NoteKind:
    """The kind of a note's parsed content. Raises ValueError when it is no note."""
    return NoteKind(_tag(note, KIND_SYSTEM))


def amended_note_id(note: JsonObject) -> str | None:
    """The noteId that an amendment amends; None for other kinds."""
    return _tag(note, AMENDS_SYSTEM)


def _order(entry: Entry) -> tuple[bool, str, str]:
    return entry.resource_type != "Encounter", entry.resource_type, entry.full_url


def _tag(note: JsonObject, system: str) -> str | None:
    meta: Any = note.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, dict) and tag.get("system") == system:
            return str(tag.get("code"))
    return None
