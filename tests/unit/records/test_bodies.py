from typing import Any

import pytest
from emr_common.problems import Problem
from emr_model.clinical.notes import NoteContent, notes_from_bundle
from emr_records.bodies import expected_version, only_note, posted_note, wants_pdf
from emr_records.handlers import queued_location
from emr_records.imports import IGNORED, MOST_REMARKS, remarks
from emr_records.notes import NoteIds, typed_content
from emr_records.schemas import AmendmentIn, TextNoteIn
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from support.fhir_samples import bundle, encounter, observation, visit_bundle

IDS = NoteIds(b"k" * 32)


@pytest.mark.parametrize(("header", "version"), [(None, None), ("*", None), ('"0"', 0), ("3", 3), (' "12" ', 12)])
def test_if_match_means_a_version_or_any(header: str | None, version: int | None) -> None:
    assert expected_version(header) == version


@pytest.mark.parametrize("header", ["", '""', "-1", '"01"', 'W/"1"', '"1", "2"', "٣", '"99999999999"'])
def test_another_if_match_is_refused(header: str) -> None:
    with pytest.raises(Problem, match="MALFORMED_REQUEST"):
        expected_version(header)


async def test_a_body_is_a_bundle_an_amendment_or_a_text() -> None:
    assert isinstance((await posted_note(visit_bundle()))[0], NoteContent)
    assert isinstance((await posted_note({"amends": "0" * 32, "text": "x"}))[0], AmendmentIn)
    assert isinstance((await posted_note({"text": "x"}))[0], TextNoteIn)


async def test_the_patient_of_a_bundle_comes_with_its_note() -> None:
    _, patient = await posted_note(visit_bundle())
    assert patient is not None
    assert patient["resourceType"] == "Patient"


@pytest.mark.parametrize("body", [{}, {"text": 5}, {"text": "x", "bundle": {}}, {"amends": None, "text": "x"}])
async def test_another_body_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RequestValidationError):
        await posted_note(body)


def test_a_bundle_of_two_visits_or_with_background_is_to_be_imported() -> None:
    two = bundle({"urn:x:e1": encounter(), "urn:x:e2": encounter()})
    for value in (two, visit_bundle(o=observation(None))):
        with pytest.raises(Problem, match="import it"):
            only_note(notes_from_bundle(value))


def test_a_typed_note_that_is_blank_is_refused() -> None:
    with pytest.raises(Problem, match="VALIDATION_FAILED"):
        typed_content("0" * 32, TextNoteIn(text=" "))


def test_an_amendment_with_a_bad_resource_is_refused_by_its_place() -> None:
    amendment = AmendmentIn(amends="0" * 32, bundle=visit_bundle(o=observation("urn:x:e1", "CANARY")))
    with pytest.raises(Problem, match="BUNDLE_INVALID") as refusal:
        typed_content("0" * 32, amendment)
    assert refusal.value.members["errors"][0]["pointer"] == "entry/2/resource/valueQuantity/value"
    assert "CANARY" not in str(refusal.value.members)


def test_a_background_note_is_known_by_its_content_and_a_visit_by_its_encounter() -> None:
    visit, background = notes_from_bundle(visit_bundle(o=observation(None))).notes
    changed_visit, changed_background = notes_from_bundle(
        visit_bundle(o=observation(None, 2), p=observation("urn:x:e1"))
    ).notes
    assert IDS.of("0" * 32, visit) == IDS.of("0" * 32, changed_visit)
    assert IDS.of("0" * 32, background) != IDS.of("0" * 32, changed_background)


def test_remarks_stand_behind_the_notes_and_are_not_without_end() -> None:
    bad = {f"b{number}": observation("urn:x:e1", "CANARY") for number in range(MOST_REMARKS + 5)}
    resources = {f"urn:x:{name}": resource for name, resource in bad.items()}
    report = notes_from_bundle(
        bundle({"urn:x:e1": encounter(), "urn:x:e2": encounter(), "urn:x:c": {"resourceType": "Claim"}, **resources})
    )
    found = remarks(report)
    assert [result.position for result in found] == list(range(1, MOST_REMARKS + 2))
    assert (found[-1].resource, found[-1].code) == ("Claim (1): financial", IGNORED)
    assert "CANARY" not in repr(found)


def test_the_key_of_note_ids_never_shows() -> None:
    assert "k" * 32 not in repr(IDS)
    assert "107, 107" not in repr(IDS)


@pytest.mark.parametrize(("made", "location"), [({"ticket": "ab"}, "/v1/transactions/ab"), ({"version": 3}, None)])
def test_what_was_made_under_a_key_decides_what_is_answered(made: dict[str, Any], location: str | None) -> None:
    answer = queued_location(JSONResponse(made, 201))
    assert (answer.status_code, answer.headers.get("location")) == (201 if location is None else 202, location)


PDF, JSON = "application/pdf", "application/fhir+json"


@pytest.mark.parametrize(
    ("accept", "is_pdf"),
    [
        (PDF, True), ("Application/PDF", True), (f"{JSON}, {PDF}", True), (f"{JSON};q=0.4, {PDF};q=0.5", True),
        (f"{JSON}, {PDF};q=0.5", False), (f"{PDF};q=0", False), (f"{PDF};q=nan", False), ("*/*", False), ("", False),
        (f"{PDF}x", False),
    ],
)  # fmt: skip
def test_a_document_is_for_who_prefers_it(accept: str, is_pdf: bool) -> None:
    assert wants_pdf(accept) is is_pdf
