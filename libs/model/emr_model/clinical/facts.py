"""What the read model takes out of an opened note: kind, time, type of Encounter, coded Conditions and medications."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any

from emr_model.clinical.canonical import JsonObject
from emr_model.clinical.fhir_time import InvalidFhirTime, time_and_month
from emr_model.clinical.note_form import NoteKind, amended_note_id, note_kind

_IN_WORDS = frozenset({"display", "text", "title", "description", "conclusion", "valueString", "comment", "div"})
_TAG = re.compile("<[^>]*>")
_PLAIN = "|".join(sorted(_IN_WORDS - {"div"}))
_PLAIN_WORDS = re.compile(rf'"(?:{_PLAIN})":"([^"\\]*)"|"(?:{_PLAIN}|div|contentType)":')
"""Strings that are words as they stand, and an empty match for all else that may have some. It matches no text inside a
string: a quote is escaped there.
"""


@dataclass(frozen=True)
class CodedConcept:
    """The first coding of a CodeableConcept that has a code, or its text alone (then system and code are None)."""

    system: str | None
    code: str | None
    display: str | None


@dataclass(frozen=True, repr=False)
class NoteFacts:
    """Facts of one note. ``month`` is the visit's, ``YYYY-MM``, local; ``encounter_class`` a code such as ``AMB``."""

    kind: NoteKind
    amends: str | None
    period_start: datetime | None
    month: str | None
    encounter_type: CodedConcept | None
    encounter_class: str | None
    conditions: tuple[CodedConcept, ...]
    medications: tuple[CodedConcept, ...]


def note_facts(note: JsonObject) -> NoteFacts:
    """Facts of a note's parsed content. Raises ValueError when it is no note."""
    resources = [entry["resource"] for entry in note.get("entry", [])]
    encounter: JsonObject = next((item for item in resources if item["resourceType"] == "Encounter"), {})
    period_start, month = _period(encounter)
    return NoteFacts(
        kind=note_kind(note),
        amends=amended_note_id(note),
        period_start=period_start,
        month=month,
        encounter_type=next((concept for item in encounter.get("type", []) if (concept := coded_concept(item))), None),
        encounter_class=(encounter.get("class") or {}).get("code"),
        conditions=tuple(_concepts(resources, "Condition", "code")),
        medications=tuple(_concepts(resources, "MedicationRequest", "medicationCodeableConcept")),
    )


def coded_concept(value: Any) -> CodedConcept | None:
    """The concept of a CodeableConcept; None if it says nothing."""
    if not isinstance(value, dict):
        return None
    text = value.get("text")
    for coding in value.get("coding") or []:
        if coding.get("code"):
            return CodedConcept(coding.get("system"), coding["code"], coding.get("display") or text)
    return CodedConcept(None, None, text) if text else None


def searchable_text(note: JsonObject) -> str:
    """What of a note people may look for by words: typed text, codes in words, remarks, narratives. Never raises."""
    words: list[str] = []
    _collect_words(note, "", words)
    return "\n".join(words).replace("\0", " ")


def searchable_text_of(canonical: str, note: JsonObject) -> str:
    """The same of a note whose canonical text is at hand: quicker where its words stand in plain members."""
    words = _PLAIN_WORDS.findall(canonical)
    return searchable_text(note) if "" in words else "\n".join(words)


def _collect_words(value: JsonObject | list[Any], name: str, words: list[str]) -> None:
    """``name`` is the member that an array stands in."""
    if isinstance(value, list):
        members: Iterable[tuple[str, Any]] = zip(repeat(name), value)
    else:
        members = value.items()
        if "contentType" in value and _is_typed(value):
            words.append(_decoded(value["data"]))
    for key, item in members:
        if isinstance(item, str):
            if key in _IN_WORDS:
                words.append(_TAG.sub(" ", item) if key == "div" else item)
        elif isinstance(item, (dict, list)):
            _collect_words(item, key, words)


def _is_typed(attachment: JsonObject) -> bool:
    return str(attachment["contentType"]).startswith("text/plain") and isinstance(attachment.get("data"), str)


def _decoded(data: str) -> str:
    """A client's attachment may be no base64, or no UTF-8: then it has no words."""
    try:
        return base64.b64decode(data, validate=True).decode("utf-8")
    except ValueError:
        return ""


def note_text(note: JsonObject) -> str | None:
    """The text that a physician typed; None for notes of resources."""
    for entry in note.get("entry", []):
        for item in (
            entry["resource"].get("content", []) if entry["resource"]["resourceType"] == "DocumentReference" else []
        ):
            attachment = item.get("attachment", {})
            if str(attachment.get("contentType", "")).startswith("text/plain") and "data" in attachment:
                return base64.b64decode(attachment["data"]).decode("utf-8")
    return None


def _period(encounter: JsonObject) -> tuple[datetime | None, str | None]:
    start = (encounter.get("period") or {}).get("start")
    try:
        return (None, None) if start is None else time_and_month(start)
    except InvalidFhirTime:
        return None, None  # an amendment's Encounter may lack one; a note's was checked when it was made


def _concepts(resources: list[JsonObject], resource_type: str, field: str) -> Iterator[CodedConcept]:
    for resource in resources:
        concept = coded_concept(resource.get(field)) if resource["resourceType"] == resource_type else None
        if concept is not None:
            yield concept
