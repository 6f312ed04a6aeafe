"""Opening the hospital's own content, and what the read model takes out of it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from emr_common.contents import ContentMismatch, Place
from emr_common.emr_keys import KeptKeys
from emr_common.sealing import ContentKey, Kind, SealingFailed
from emr_model.clinical.canonical import JsonObject, parse_texts
from emr_model.clinical.errors import ClinicalError
from emr_model.clinical.facts import CodedConcept, NoteFacts, note_facts, searchable_text_of
from emr_model.clinical.fhir_time import InvalidFhirTime, parse_fhir_time
from emr_model.ledger import keys
from emr_model.ledger.events import LedgerEvent
from emr_model.ledger.values import Emr, Note

from emr_indexer.projector.changes import CannotProject, Row
from emr_indexer.refusals import Refusal

MOST_CHARACTERS_AHEAD = 32 * 1024 * 1024
"""Of content; of usual notes more than what may wait."""
UNREADABLE = (ContentMismatch, ClinicalError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, repr=False)
class OpenedNote:
    """Rows of a note's content: columns of ``note``, and the concepts of its conditions and medications."""

    columns: Row
    conditions: tuple[CodedConcept, ...]
    medications: tuple[CodedConcept, ...]
    year: int

    @property
    def characters(self) -> int:
        return len(self.columns["content"])


class Ahead:
    """Notes that were opened before their turn, by keys that were kept: of use if that is still the EMR's key then."""

    def __init__(self, owner_msp: str, keys: KeptKeys) -> None:
        self._owner_msp = owner_msp
        self._keys = keys
        self._opened: dict[tuple[int, int, int], tuple[LedgerEvent, ContentKey, OpenedNote]] = {}
        self._characters = 0

    def open(self, event: LedgerEvent) -> None:
        """Raises what makes the event's turn fail too."""
        fact, key = event.fact, self._keys.kept(event.attributes[0])
        if key is None or event.sealed is None or not isinstance(fact, Note):
            return
        if self._characters >= MOST_CHARACTERS_AHEAD:  # or they never had their turn
            self._opened.clear()
            self._characters = 0
        self._forget(event)
        opened = _open_note(self._owner_msp, event, fact, key)
        self._opened[event.position] = (event, key, opened)
        self._characters += opened.characters

    def take(self, event: LedgerEvent, key: ContentKey) -> OpenedNote | None:
        opened_event, opened_by, opened = self._forget(event) or (None, None, None)
        return opened if opened_event is event and opened_by is key else None

    def _forget(self, event: LedgerEvent) -> tuple[LedgerEvent, ContentKey, OpenedNote] | None:
        found = self._opened.pop(event.position, None)
        if found is not None:
            self._characters -= found[2].characters
        return found


class Contents:
    """Opens what events carry. ``wrapped_keys`` are those of the EMRs at hand; an EMR without one was erased."""

    def __init__(self, owner_msp: str, keys: KeptKeys, wrapped_keys: Mapping[str, bytes], ahead: Ahead) -> None:
        self._owner_msp = owner_msp
        self._keys = keys
        self._wrapped_keys = wrapped_keys
        self._ahead = ahead

    def note(self, event: LedgerEvent, fact: Note) -> OpenedNote | None:
        """None for a placeholder: the bytes did not come, or their key is gone.

        Raises CannotProject for bytes that do not open as what the ledger says of them.
        """
        key = self._key(event.attributes[0])
        if key is None or event.sealed is None:
            return None
        return self._ahead.take(event, key) or _open_note(self._owner_msp, event, fact, key)

    def demographics(self, event: LedgerEvent, fact: Emr) -> Row | None:
        """Columns of ``emr``. None and CannotProject as for a note."""
        key = self._key(event.attributes[0])
        if key is None or event.sealed is None:
            return None
        try:
            return _demographics(_open(self._owner_msp, event, fact, key, "demographics", fact.demographics_revision))
        except UNREADABLE as error:
            raise CannotProject(Refusal.CONTENT_UNREADABLE) from error

    def _key(self, emr_id: str) -> ContentKey | None:
        wrapped = self._wrapped_keys.get(emr_id)
        if wrapped is None:
            self._keys.forget([emr_id])
            return None
        try:
            return self._keys.unwrapped(emr_id, wrapped)
        except SealingFailed as error:
            raise CannotProject(Refusal.CONTENT_UNREADABLE) from error


def _open_note(owner_msp: str, event: LedgerEvent, fact: Note, key: ContentKey) -> OpenedNote:
    """Raises CannotProject for bytes that do not open as what the ledger says of them, or are no note."""
    try:
        return _opened_note(_open(owner_msp, event, fact, key, "note", keys.number(event.attributes[1])), fact.at)
    except UNREADABLE as error:
        raise CannotProject(Refusal.CONTENT_UNREADABLE) from error


def _open(owner_msp: str, event: LedgerEvent, fact: Note | Emr, key: ContentKey, kind: Kind, version: int) -> bytes:
    place = Place(event.channel, owner_msp, event.attributes[0])
    return place.open(key, event.sealed_bytes or b"", kind, version, fact.sha256, fact.commitment).canonical


def _opened_note(canonical: bytes, noted_at: datetime) -> OpenedNote:
    note, text = parse_texts(canonical), canonical.decode()
    facts = note_facts(note)
    month = _month(facts, noted_at)
    concept = facts.encounter_type
    columns = {
        "kind": facts.kind.value,
        "amends": facts.amends,
        "period_start": facts.period_start,
        "month": month,
        "encounter_class": facts.encounter_class,
        "encounter_type": concept.code if concept else None,
        "encounter_type_display": concept.display if concept else None,
        "content": text,
        "words": searchable_text_of(text, note),
    }
    return OpenedNote(columns, facts.conditions, facts.medications, month.year)


def _month(facts: NoteFacts, noted_at: datetime) -> date:
    """The encounter's month where it was, else that of the ledger's time. First day."""
    return date.fromisoformat(f"{facts.month or noted_at.astimezone(UTC).strftime('%Y-%m')}-01")


def _demographics(canonical: bytes) -> Row:
    patient = parse_texts(canonical)
    name = _preferred_name(patient)
    return {
        "demographics": canonical.decode(),
        "family_name": name.get("family"),
        "given_names": " ".join(name.get("given", [])) or None,
        "birth_date": _first_day(patient.get("birthDate")),
        "sex": patient.get("gender"),
    }


def _preferred_name(patient: JsonObject) -> JsonObject:
    """The official name, else the usual one, else the first."""
    names = patient.get("name") or [{}]
    by_use: dict[Any, JsonObject] = {name.get("use"): name for name in reversed(names)}
    return by_use.get("official") or by_use.get("usual") or names[0]


def _first_day(birth_date: Any) -> date | None:
    try:
        return None if birth_date is None else parse_fhir_time(birth_date).date()
    except InvalidFhirTime:
        return None


class Pseudonyms:
    """Names for patients that stand for one calendar year each. Without the key nobody can tell whose they are."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError for a key of less than 32 bytes."""
        if len(key) < 32:
            raise ValueError("the key of pseudonyms has less than 32 bytes")
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> Pseudonyms:
        return cls(path.read_bytes().strip())

    def of(self, emr_id: str, year: int) -> str:
        return hmac.digest(self._key, f"{emr_id}|{year}".encode(), "sha256")[:16].hex()
