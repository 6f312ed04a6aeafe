"""Clinical bodies, read from their bytes by the strict parser: no float, no duplicate key, no silent repair."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from emr_common.problems import Problem
from emr_model.clinical.canonical import JsonObject, parse_object
from emr_model.clinical.errors import BundleMalformed, CanonicalJsonError
from emr_model.clinical.notes import BundleReport, NoteContent, notes_from_bundle
from emr_model.clinical.validation import ResourceProblem
from emr_model.ledger.codes import Code
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from emr_records.schemas import AmendmentIn, TextNoteIn

MEDIA_TYPES = frozenset({"application/json", "application/fhir+json"})
MOST_PROBLEMS = 50
_IF_MATCH = re.compile(r'"?(0|[1-9][0-9]{0,9})"?', re.ASCII)

M = TypeVar("M", bound=BaseModel)
PostedNote = NoteContent | TextNoteIn | AmendmentIn


async def clinical_body(request: Request) -> JsonObject:
    """The object in a JSON body. Raises Problem UNSUPPORTED_MEDIA_TYPE or MALFORMED_REQUEST."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE)
    data = await request.body()
    try:
        return await asyncio.to_thread(parse_object, data)
    except CanonicalJsonError as error:
        raise Problem(Code.MALFORMED_REQUEST, str(error)) from None


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


def expected_version(if_match: str | None) -> int | None:
    """The version that an If-Match header means; None for any. Raises Problem MALFORMED_REQUEST."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _IF_MATCH.fullmatch(if_match.strip())
    if match is None:
        raise Problem(Code.MALFORMED_REQUEST, "If-Match is not the version of an EMR")
    return int(match[1])
