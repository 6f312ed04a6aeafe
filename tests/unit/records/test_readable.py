"""The EMR as a document to read: what it says, whatever the notes hold."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from carebundle.core.bundle import to_json
from carebundle.history import generate_history
from emr_common.contents import OpenedEmr, OpenedNote
from emr_common.problems import Problem
from emr_model.clinical.canonical import canonical_bytes, parse
from emr_model.clinical.notes import NoteContent, notes_from_bundle
from emr_model.clinical.sealed_form import commitment, pack, unpack
from emr_model.clinical.typed import text_note
from emr_model.ledger.answers import NoteView
from emr_model.ledger.values import Emr, Event, Life
from emr_records.readable.document import Access, Placed, document
from emr_records.readable.process import WAITING, Typesetter
from emr_records.readable.resources import lines
from pypdf import PdfReader

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
EMR_ID = "ab" * 16
HOSTILE = '#panic() *bold* $x^2$ `raw` @label <tag> \\ ] " Łukasz Ελένη Зоя'


def opened(patient: dict[str, Any], notes: list[NoteContent]) -> OpenedEmr:
    header = unpack(*_packed(canonical_bytes(patient)))
    emr = Emr("HospitalA", "cd" * 16, "", None, len(notes), 0, 1, "", "", "someone", NOW, Event.EMR_CREATED)
    return OpenedEmr(EMR_ID, emr, Life.ACTIVE, header, tuple(_opened(i + 1, note) for i, note in enumerate(notes)))


def _opened(version: int, note: NoteContent) -> OpenedNote:
    content = unpack(*_packed(note.content))
    view = NoteView(
        version, f"{version:032x}", "physician-1", NOW, commitment(content.salt, note.content), "0f" * 32, None
    )
    return OpenedNote(view, content)


def _packed(content: bytes) -> tuple[bytes, str]:
    packed = pack(content)
    return packed.plaintext, packed.commitment


async def told(data: dict[str, Any]) -> str:
    """The text of the PDF, without line breaks."""
    reader = PdfReader(io.BytesIO(await Typesetter().pdf(data)))
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


async def test_a_history_is_told_with_every_note_its_proof_and_its_readers() -> None:
    report = notes_from_bundle(parse(to_json(generate_history(seed=11, visits=4)).encode()))
    assert report.patient is not None
    emr = opened(report.patient.resource, list(report.notes))
    accesses = [Access(NOW, "HospitalB", "physician-9", "physician", "read-shared-emr", "TREAT")]
    data = document(emr, "HospitalA", "care", {1: Placed("7e" * 32, 12)}, accesses)
    text = await told(data)
    compact = text.replace(" ", "")
    for note in emr.notes:
        assert note.view.commitment in compact
    assert "7e" * 32 in compact
    assert "physician-9" in text
    for line in [line for note in data["notes"] for line in note["rows"]]:
        assert line[1].replace(" ", "") in compact


async def test_what_notes_hold_is_shown_and_never_read_as_markup() -> None:
    patient = {"resourceType": "Patient", "name": [{"given": ["Zoë"], "family": HOSTILE}]}
    text = await told(document(opened(patient, [text_note("1" * 32, HOSTILE)]), "HospitalA", "care", {}, []))
    assert text.replace(" ", "").count(HOSTILE.replace(" ", "")) >= 2


async def test_an_emr_without_notes_is_told_too() -> None:
    text = await told(document(opened({"resourceType": "Patient"}, []), "HospitalA", "care", {}, []))
    assert "There are no notes yet." in text
    assert "an unnamed patient" in text


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        (
            {"resourceType": "Observation", "code": {"text": "Height"}, "valueQuantity": {"value": 1.80, "unit": "m"}},
            ("Observation", "Height", "1.80 m"),
        ),
        (
            {
                "resourceType": "Observation",
                "code": {"coding": [{"code": "85354-9", "display": "Blood pressure"}]},
                "component": [
                    {"code": {"text": "Systolic"}, "valueQuantity": {"value": 120, "unit": "mmHg"}},
                    {"code": {"text": "Diastolic"}, "valueQuantity": {"value": 80, "unit": "mmHg"}},
                ],
            },
            ("Observation", "Blood pressure", "Systolic 120 mmHg, Diastolic 80 mmHg"),
        ),
        (
            {
                "resourceType": "Condition",
                "code": {"coding": [{"code": "38341003"}]},
                "onsetDateTime": "2020-02-03T10:00:00Z",
            },
            ("Condition", "38341003", "2020-02-03"),
        ),
        (
            {
                "resourceType": "MedicationRequest",
                "medicationCodeableConcept": {"text": "Aspirin"},
                "authoredOn": "2021",
            },
            ("Medication request", "Aspirin", "2021"),
        ),
        (
            {"resourceType": "CarePlan", "period": {"start": "2019-01-01"}},
            ("Care plan", "(without a name)", "2019-01-01"),
        ),
    ],
)
def test_a_resource_is_a_line(resource: dict[str, Any], line: tuple[str, str, str]) -> None:
    read = parse(json.dumps(resource).replace("1.8,", "1.80,").encode())
    assert list(lines([read])) == [line]


@pytest.mark.parametrize("kind", ["Patient", "Practitioner", "Encounter"])
def test_people_and_places_are_no_lines(kind: str) -> None:
    assert list(lines([{"resourceType": kind}])) == []


async def test_too_many_documents_at_once_are_turned_away() -> None:
    typesetter = Typesetter()
    typesetter._waiting = WAITING
    with pytest.raises(Problem, match="OVERLOADED"):
        await typesetter.pdf({})
