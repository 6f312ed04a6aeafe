"""What a FHIR bundle becomes: notes, what was ignored, what was refused, by the rules of docs/clinical-notes.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from emr_model.clinical.bundle import Bundle, Entry, read_bundle, reference
from emr_model.clinical.canonical import canonical_bytes
from emr_model.clinical.demographics import patient_of
from emr_model.clinical.fhir_time import InvalidFhirTime, parse_fhir_time
from emr_model.clinical.grouping import Group, Ignored, group
from emr_model.clinical.limits import NOTE_MAX_BYTES
from emr_model.clinical.note_form import NoteKind, note_bundle
from emr_model.clinical.validation import ResourceProblem, Validator, known_type


@dataclass(frozen=True, repr=False)
class NoteContent:
    """A note ready to be sealed: ``content`` are its canonical bytes.

    ``note_key`` is what its note id is made of: an Encounter's ``system|value`` or fullUrl; empty for the other kinds.
    ``period_start`` and ``position`` (its entry in the bundle) are the Encounter's, None for the other kinds; an
    Encounter may have no ``period_start``.
    """

    kind: NoteKind
    content: bytes
    note_key: str = ""
    period_start: datetime | None = None
    position: int | None = None
    entries: int = 0

    @property
    def is_visit(self) -> bool:
        return self.kind is NoteKind.ENCOUNTER


@dataclass(frozen=True)
class RefusedNote:
    """A note that was not made, as a whole, and every mistake that is the reason; ``position`` as in NoteContent."""

    kind: NoteKind
    position: int | None
    problems: tuple[ResourceProblem, ...]


@dataclass(frozen=True, repr=False)
class BundleReport:
    """All that a bundle becomes; ``notes`` are in the order of the EMR: by period start, fullUrl, background last."""

    notes: tuple[NoteContent, ...]
    patient: Entry | None
    ignored: tuple[Ignored, ...]
    refused: tuple[RefusedNote, ...]


def notes_from_bundle(value: Any) -> BundleReport:
    """Makes notes from parsed JSON (``canonical.parse``).

    A note with one resource that does not validate is refused as a whole; the others are made. Raises BundleMalformed
    when no entries can be read, or when there is more than one Patient.
    """
    bundle = read_bundle(value)
    patient = patient_of(bundle)
    grouping = group(bundle)
    maker = _NoteMaker(bundle, patient)
    made = [maker.make(each) for each in _in_order(grouping.encounters)]
    if grouping.background.members:
        made.append(maker.make(grouping.background))
    return BundleReport(
        notes=tuple(each for each in made if isinstance(each, NoteContent)),
        patient=patient,
        ignored=grouping.ignored,
        refused=tuple(each for each in made if isinstance(each, RefusedNote)),
    )


def _in_order(groups: Iterable[Group]) -> list[Group]:
    def key(each: Group) -> tuple[datetime, str]:
        assert each.encounter is not None
        try:
            start = _period_start(each.encounter)
        except InvalidFhirTime:
            start = None  # it will be refused; where it stands does not matter
        return start or datetime.max.replace(tzinfo=UTC), each.encounter.full_url

    return sorted(groups, key=key)


class _NoteMaker:
    def __init__(self, bundle: Bundle, patient: Entry | None) -> None:
        self._bundle = bundle
        self._patient = patient
        self._validator = Validator()
        self._note_keys: set[str] = set()

    def make(self, each: Group) -> NoteContent | RefusedNote:
        kind = NoteKind.BACKGROUND if each.encounter is None else NoteKind.ENCOUNTER
        position = None if each.encounter is None else each.encounter.position
        problems = tuple(self._problems(each))
        if problems:
            return RefusedNote(kind, position, problems)
        content = canonical_bytes(note_bundle(kind, each.entries))
        if len(content) > NOTE_MAX_BYTES:
            return RefusedNote(kind, position, (_whole("note-too-large"),))
        if each.encounter is None:
            return NoteContent(kind, content, entries=len(each.entries))
        note_key = _note_key(each.encounter)
        if note_key in self._note_keys:
            return RefusedNote(kind, position, (_whole("encounter-repeated"),))
        self._note_keys.add(note_key)
        return NoteContent(kind, content, note_key, _period_start(each.encounter), position, len(each.entries))

    def _problems(self, each: Group) -> Iterator[ResourceProblem]:
        if each.encounter is not None:
            yield from _period_problems(each.encounter)
        for entry in each.entries:
            yield from self._validator.problems(entry)
        yield from self._foreign_subjects(each)

    def _foreign_subjects(self, each: Group) -> Iterator[ResourceProblem]:
        """One note is about one person: the bundle's Patient or, without one, whoever its first resource names."""
        expected: object = self._patient
        for entry in each.entries:
            for name in ("subject", "patient"):
                text = reference(entry.resource.get(name))
                if text is None:
                    continue
                subject = self._bundle.resolve(text) or text
                expected = subject if expected is None else expected
                if subject is not expected and subject != expected:
                    yield ResourceProblem(entry.position, known_type(entry.resource_type), name, "another-subject")


def _whole(reason: str) -> ResourceProblem:
    return ResourceProblem(None, "Bundle", "", reason)


def _period_problems(encounter: Entry) -> Iterator[ResourceProblem]:
    try:
        _period_start(encounter)
    except InvalidFhirTime:
        yield ResourceProblem(encounter.position, "Encounter", "period.start", "not-a-time")


def _period_start(encounter: Entry) -> datetime | None:
    period = encounter.resource.get("period")
    start = period.get("start") if isinstance(period, dict) else None
    return None if start is None else parse_fhir_time(start)


def _note_key(encounter: Entry) -> str:
    """``system|value`` of the Encounter's first identifier that has both, else its fullUrl."""
    identifiers = encounter.resource.get("identifier")
    for item in identifiers if isinstance(identifiers, list) else []:
        system, value = (item.get("system"), item.get("value")) if isinstance(item, dict) else (None, None)
        if isinstance(system, str) and isinstance(value, str):
            return f"{system}|{value}"
    return encounter.full_url
