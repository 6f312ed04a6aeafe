import base64
from decimal import Decimal
from typing import Any

import pytest
from emr_model.clinical.bundle import Entry
from emr_model.clinical.canonical import parse, parse_object
from emr_model.clinical.demographics import demographics_content, patient_from_bundle
from emr_model.clinical.errors import BundleMalformed, DemographicsInvalid, NoteInvalid
from emr_model.clinical.facts import coded_concept, note_facts, note_text
from emr_model.clinical.fhir_time import InvalidFhirTime, parse_fhir_time, time_and_month
from emr_model.clinical.limits import IMPORT_MAX_BYTES, TEXT_MAX_CHARACTERS
from emr_model.clinical.note_form import NoteKind, amended_note_id, note_kind
from emr_model.clinical.notes import notes_from_bundle
from emr_model.clinical.report import check_bundle, describe
from emr_model.clinical.typed import AmendmentRefused, bundle_amendment, text_amendment, text_note
from emr_model.clinical.validation import ResourceProblem, Validator
from fhir.resources.R4B.bundle import Bundle
from support.fhir_samples import bundle, encoded, encounter, observation, patient, visit_bundle

NOTE_ID, AMENDED = "0123456789abcdef" * 2, "f" * 32


def test_a_typed_text_is_wrapped_as_a_document_reference() -> None:
    note = text_note(NOTE_ID, "Slept well. É", "Ward round")
    content = parse_object(note.content)
    document = content["entry"][0]["resource"]
    assert (note.kind, note.is_visit) == (NoteKind.TEXT, False)
    assert note_kind(content) is NoteKind.TEXT
    assert base64.b64decode(document["content"][0]["attachment"]["data"]).decode() == "Slept well. É"
    assert content["entry"][0]["fullUrl"] == "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"
    assert note_text(content) == "Slept well. É"


def test_the_same_typed_note_has_the_same_bytes() -> None:
    assert text_note(NOTE_ID, "x").content == text_note(NOTE_ID, "x").content


def test_an_amendment_names_the_note_that_it_amends() -> None:
    for note in (text_amendment(NOTE_ID, AMENDED, "x"), bundle_amendment(AMENDED, visit_bundle())):
        content = parse_object(note.content)
        assert (note.kind, note.is_visit) == (NoteKind.AMENDMENT, False)
        assert amended_note_id(content) == AMENDED
        assert note_facts(content).amends == AMENDED


NOTES = [
    text_note(NOTE_ID, "x"),
    text_amendment(NOTE_ID, AMENDED, "x", "t"),
    bundle_amendment(AMENDED, visit_bundle()),
]


@pytest.mark.parametrize("content", NOTES)
def test_every_note_is_a_valid_fhir_bundle(content: Any) -> None:
    Bundle.model_validate(parse_object(content.content))


@pytest.mark.parametrize("text", ["", " \n", "x" * (TEXT_MAX_CHARACTERS + 1)])
def test_an_empty_or_too_long_text_is_no_note(text: str) -> None:
    with pytest.raises(NoteInvalid):
        text_note(NOTE_ID, text)


def test_the_longest_text_fits_into_a_note() -> None:
    # a character takes four bytes in UTF-8 at most, and those a third more in base64
    assert len(text_note(NOTE_ID, "\U0001f600" * (TEXT_MAX_CHARACTERS * 3 // 4)).content) < 256 * 1024


def test_an_amendment_whose_resources_do_not_validate_is_refused_with_all_mistakes() -> None:
    bad = visit_bundle(o1=observation("urn:x:e1", value="SECRET"), o2=observation("urn:x:e1", status=1))
    with pytest.raises(AmendmentRefused) as refusal:
        bundle_amendment(AMENDED, bad)
    assert [problem.position for problem in refusal.value.problems] == [2, 3]
    assert "SECRET" not in repr(refusal.value.problems)


def test_an_amendment_without_resources_is_refused() -> None:
    with pytest.raises(NoteInvalid):
        bundle_amendment(AMENDED, bundle({}))


def test_facts_are_the_encounters_time_place_month_type_and_the_codes() -> None:
    condition = {
        "resourceType": "Condition",
        "subject": {"reference": "urn:x"},
        "code": {
            "coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertension"}],
            "text": "HT",
        },
    }
    medication = {"resourceType": "MedicationRequest", "medicationCodeableConcept": {"text": "Aspirin"}}
    resources = {"urn:e": encounter("2024-05-31T23:30:00-05:00"), "urn:c": condition, "urn:m": medication}
    facts = note_facts(
        parse_object(
            encoded(
                {**bundle(resources), "meta": {"tag": [{"system": "urn:careledger:note-kind", "code": "encounter"}]}}
            )
        )
    )
    assert facts.month == "2024-05"
    assert facts.period_start is not None
    assert facts.period_start.isoformat() == "2024-05-31T23:30:00-05:00"
    assert facts.encounter_class == "AMB"
    assert facts.encounter_type is not None
    assert facts.encounter_type.code == "185345009"
    assert [item.code for item in facts.conditions] == ["38341003"]
    assert [(item.code, item.display) for item in facts.medications] == [(None, "Aspirin")]


def test_what_is_no_note_has_no_facts() -> None:
    with pytest.raises(ValueError, match="not a valid NoteKind"):
        note_facts({"resourceType": "Bundle"})


@pytest.mark.parametrize("value", [None, "x", {}, {"coding": []}, {"coding": [{"display": "no code"}]}])
def test_a_concept_that_says_nothing_is_none(value: Any) -> None:
    assert coded_concept(value) is None


@pytest.mark.parametrize(
    ("text", "moment", "month"),
    [
        ("2024", "2024-01-01T00:00:00+00:00", None),
        ("2024-05", "2024-05-01T00:00:00+00:00", "2024-05"),
        ("2024-05-06", "2024-05-06T00:00:00+00:00", "2024-05"),
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00", "2024-05"),
        ("2024-05-06T07:08:09.5+14:00", "2024-05-06T07:08:09.500000+14:00", "2024-05"),
        ("2024-05-06T07:08:09.123456789-03:30", "2024-05-06T07:08:09.123456-03:30", "2024-05"),
    ],
)
def test_a_fhir_time_is_its_first_instant(text: str, moment: str, month: str | None) -> None:
    assert parse_fhir_time(text).isoformat() == moment
    assert time_and_month(text)[1] == month


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "",
        "24",
        "2024-00",
        "2024-02-30",
        "2024-05-06T07:08Z",
        "2024-05-06 07:08:09Z",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_is_no_fhir_time_is_refused(value: Any) -> None:
    with pytest.raises(InvalidFhirTime):
        parse_fhir_time(value)


def test_demographics_are_the_canonical_patient() -> None:
    assert parse(demographics_content(patient())) == patient()
    assert patient_from_bundle(visit_bundle()) == patient()


@pytest.mark.parametrize(
    "resource",
    [
        encounter(),
        patient(birthDate="SECRET"),
        patient(SECRET=1),
        patient(text={"status": "generated", "div": "x" * 300_000}),
    ],
)
def test_demographics_that_do_not_validate_are_refused_without_repeating_them(resource: dict[str, Any]) -> None:
    with pytest.raises(DemographicsInvalid) as refusal:
        demographics_content(resource)
    assert "SECRET" not in str(refusal.value)


def test_a_bundle_without_a_patient_or_with_two_gives_no_demographics() -> None:
    with pytest.raises(DemographicsInvalid):
        patient_from_bundle(bundle({}))
    with pytest.raises(BundleMalformed):
        patient_from_bundle(bundle({"urn:1": patient(), "urn:2": patient()}))


# what fhir.resources lets through


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        (observation(None, subject='{"reference":"urn:x"}'), "subject"),
        (observation(None, effectiveDateTime=20240101), "effectiveDateTime"),
        ({**encounter(), "class_fhir": {"code": "AMB"}}, ""),
        (patient(active="true"), "active"),
        (patient(multipleBirthInteger="2"), "multipleBirthInteger"),
        (observation(None, value="1.5"), "valueQuantity.value"),
        (observation(None, value=True), "valueQuantity.value"),
    ],
)
def test_what_the_models_would_quietly_convert_is_refused(resource: dict[str, Any], field: str) -> None:
    problems = Validator().problems(notes_entry(resource))
    assert [problem.field for problem in problems] == [field]


def test_a_contained_resource_of_an_unknown_type_is_refused() -> None:
    assert Validator().problems(notes_entry(patient(contained=[{"resourceType": "SECRET"}])))


def test_decimals_of_any_form_validate() -> None:
    for value in (Decimal("1.0"), Decimal("1E+2"), Decimal("-0.0"), Decimal("1E-9"), 3):
        assert not Validator().problems(notes_entry(observation(None, value=value)))


def notes_entry(resource: dict[str, Any]) -> Entry:
    return Entry(0, "urn:x", resource)


# the report for `emr bundle check`


def test_a_check_names_what_is_refused_by_type_and_position_only() -> None:
    check = check_bundle(encoded(visit_bundle(o1=observation("urn:x:e1", value="SECRET"))))
    assert not check.passes
    assert check.refused[0].reasons == ("Observation at entry 2: valueQuantity.value: value-error",)
    assert "SECRET" not in repr(check)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"{", "not JSON: line 1, column 2"),
        (b"{}", "not a FHIR Bundle"),
        (b"[" + b" " * IMPORT_MAX_BYTES, f"over {IMPORT_MAX_BYTES} bytes"),
        (encoded(bundle({"urn:1": patient(birthDate="SECRET")})), "the Patient does not validate: birthDate"),
    ],
)
def test_a_check_says_why_nothing_can_be_taken(data: bytes, error: str) -> None:
    check = check_bundle(data)
    assert (check.error, check.passes, check.notes) == (error, False, ())


def test_a_mistake_is_described_in_one_line() -> None:
    assert describe(ResourceProblem(None, "Bundle", "", "note-too-large")) == "Bundle: note-too-large"


def test_a_bundle_without_encounters_has_no_notes() -> None:
    assert notes_from_bundle(bundle({"urn:1": patient()})).notes == ()
