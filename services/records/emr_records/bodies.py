"""What clinical bodies are to become; ``emr_common.bodies`` has read them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from emr_common.bodies import MEDIA_TYPES
from emr_common.problems import Problem
from emr_model.clinical.canonical import JsonObject
from emr_model.clinical.errors import BundleMalformed
from emr_model.clinical.notes import BundleReport, NoteContent, notes_from_bundle
from emr_model.clinical.validation import ResourceProblem
from emr_model.ledger.codes import Code
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from emr_records.schemas import AmendmentIn, TextNoteIn

MOST_PROBLEMS = 50
_QUALITY = re.compile(r"[01](\.[0-9]{0,3})?", re.ASCII)
_IF_MATCH = re.compile(r'"?(0|[1-9][0-9]{0,9})"?', re.ASCII)

M = TypeVar("M", bound=BaseModel)
PostedNote = NoteContent | TextNoteIn | AmendmentIn


async def posted_note(body: JsonObject) -> tuple[PostedNote, JsonObject | None]:
    """What is to become a note, and the Patient that came with it.

    Raises Problem BUNDLE_INVALID for a bundle that is not exactly one Encounter's note, RequestValidationError for
    another body.
    """
    if body.get("resourceType") == "Bundle":
        report = await bundle_report(body)
        return only_note(report), None if report.patient is None else report.patient.resource
    if "amends" in body:
        return validated(AmendmentIn, body), None
    return validated(TextNoteIn, body), None


async def bundle_report(body: JsonObject) -> BundleReport:
    """Raises Problem BUNDLE_INVALID when no entries can be read."""
    try:
        return await asyncio.to_thread(notes_from_bundle, body)
    except BundleMalformed as error:
        raise Problem(Code.BUNDLE_INVALID, str(error)) from None


def only_note(report: BundleReport) -> NoteContent:
    """Raises Problem BUNDLE_INVALID."""
    if report.refused:
        raise refused(report)
    if len(report.notes) != 1 or not report.notes[0].is_visit:
        raise Problem(Code.BUNDLE_INVALID, "the bundle is not one finished Encounter's note: import it")
    return report.notes[0]


def refused(report: BundleReport) -> Problem:
    """All mistakes of a report, by type, position and field."""
    return invalid([problem for note in report.refused for problem in note.problems])


def invalid(problems: list[ResourceProblem]) -> Problem:
    errors = [_error(problem) for problem in problems[:MOST_PROBLEMS]]
    return Problem(Code.BUNDLE_INVALID, "resources do not validate", members={"errors": errors})


def _error(problem: ResourceProblem) -> dict[str, Any]:
    where = "" if problem.position is None else f"entry/{problem.position}/resource"
    pointer = f"{where}/{problem.field.replace('.', '/')}".rstrip("/")
    return {"pointer": pointer, "resourceType": problem.resource_type, "reason": problem.reason}


def validated(kind: type[M], value: Mapping[str, Any]) -> M:
    """Raises RequestValidationError, which is answered without the input."""
    try:
        return kind.model_validate(value, strict=True)
    except ValidationError as error:
        raise RequestValidationError(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from None


def is_async(prefer: str | None) -> bool:
    """Whether a Prefer header (RFC 7240) asks for 202 and an answer later."""
    return "respond-async" in {part.partition(";")[0].strip().lower() for part in (prefer or "").split(",")}


def wants_pdf(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) names PDF, and JSON no more than that."""
    pdf = _quality(accept, "application/pdf")
    return pdf > 0 and pdf >= max(_quality(accept, json_type) for json_type in MEDIA_TYPES)


def _quality(accept: str, media_type: str) -> float:
    for one in accept.lower().split(","):
        name, *parameters = [part.strip() for part in one.split(";")]
        if name == media_type:
            given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
            return float(given) if _QUALITY.fullmatch(given) else 0.0
    return 0.0


def expected_version(if_match: str | None) -> int | None:
    """The version that an If-Match header means; None for any. Raises Problem MALFORMED_REQUEST."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _IF_MATCH.fullmatch(if_match.strip())
    if match is None:
        raise Problem(Code.MALFORMED_REQUEST, "If-Match is not the version of an EMR")
    return int(match[1])
