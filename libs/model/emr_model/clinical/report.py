"""What each bundle of a folder would become, and why not: for ``emr bundle check``. Pure: bytes in, plain values out.

No report carries content or identifiers of people; resources are named by their type and position.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass

from emr_model.clinical.canonical import parse
from emr_model.clinical.demographics import demographics_content
from emr_model.clinical.errors import ClinicalError
from emr_model.clinical.limits import IMPORT_MAX_BYTES
from emr_model.clinical.notes import BundleReport, NoteContent, RefusedNote, notes_from_bundle
from emr_model.clinical.validation import ResourceProblem, known_type


@dataclass(frozen=True)
class NoteLine:
    """A note that would be made; ``size`` and ``compressed_size`` in bytes, ``period_start`` in ISO 8601."""

    kind: str
    is_visit: bool
    period_start: str | None
    entries: int
    size: int
    compressed_size: int


@dataclass(frozen=True)
class RefusedLine:
    """A note that would be refused; each reason reads ``Observation at entry 12: valueQuantity.value: value-error``."""

    kind: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class BundleCheck:
    """The report on one bundle. ``error`` is why nothing of it can be taken; ``ignored`` counts ``(type, reason)``."""

    error: str | None
    demographics_size: int | None
    notes: tuple[NoteLine, ...]
    refused: tuple[RefusedLine, ...]
    ignored: tuple[tuple[str, str, int], ...]

    @property
    def passes(self) -> bool:
        """Would everything clinical in it go in?"""
        return self.error is None and not self.refused

    @property
    def size(self) -> int:
        """Bytes of the EMR that it would become: demographics and notes."""
        return (self.demographics_size or 0) + sum(note.size for note in self.notes)


def check_bundle(data: bytes) -> BundleCheck:
    """What the bytes of one bundle would become. Never raises for what is in them."""
    if len(data) > IMPORT_MAX_BYTES:
        return _nothing(f"over {IMPORT_MAX_BYTES} bytes")
    try:
        report = notes_from_bundle(parse(data))
        demographics = None if report.patient is None else demographics_content(report.patient.resource)
    except ClinicalError as error:
        return _nothing(str(error))
    return BundleCheck(
        error=None,
        demographics_size=None if demographics is None else len(demographics),
        notes=tuple(map(_note_line, report.notes)),
        refused=tuple(map(_refused_line, report.refused)),
        ignored=ignored_counts(report),
    )


def ignored_counts(report: BundleReport) -> tuple[tuple[str, str, int], ...]:
    """``(resource type, reason, how many)`` of all that a report ignored, sorted."""
    counts = Counter((known_type(item.entry.resource_type), item.reason.value) for item in report.ignored)
    return tuple((resource_type, reason, count) for (resource_type, reason), count in sorted(counts.items()))


def describe(problem: ResourceProblem) -> str:
    """One mistake in one line."""
    where = (
        problem.resource_type if problem.position is None else f"{problem.resource_type} at entry {problem.position}"
    )
    return f"{where}: {problem.field}: {problem.reason}" if problem.field else f"{where}: {problem.reason}"


def _nothing(error: str) -> BundleCheck:
    return BundleCheck(error=error, demographics_size=None, notes=(), refused=(), ignored=())


def _note_line(note: NoteContent) -> NoteLine:
    return NoteLine(
        kind=note.kind.value,
        is_visit=note.is_visit,
        period_start=None if note.period_start is None else note.period_start.isoformat(),
        entries=note.entries,
        size=len(note.content),
        compressed_size=len(zlib.compress(note.content, 9)),
    )


def _refused_line(note: RefusedNote) -> RefusedLine:
    return RefusedLine(note.kind.value, tuple(describe(problem) for problem in note.problems))
