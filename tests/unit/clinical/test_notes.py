from typing import Any

import pytest
from emr_model.clinical import validation
from emr_model.clinical.bundle import Entry
from emr_model.clinical.canonical import canonical_bytes, parse, parse_object
from emr_model.clinical.errors import BundleMalformed
from emr_model.clinical.limits import NOTE_MAX_BYTES
from emr_model.clinical.note_form import NoteKind, amended_note_id, note_kind
from emr_model.clinical.notes import BundleReport, NoteContent, notes_from_bundle
from emr_model.clinical.validation import Validator
from hypothesis import given
from hypothesis import strategies as st
from support.fhir_samples import PATIENT_URL, bundle, encoded, encounter, observation, patient, visit_bundle


def report_on(value: Any) -> BundleReport:
    return notes_from_bundle(parse(encoded(value)))


def only_note(value: Any) -> NoteContent:
    report = report_on(value)
    assert not report.refused
    (note,) = report.notes
    return note


def urls(note: NoteContent) -> list[str]:
    return [entry["fullUrl"] for entry in parse_object(note.content)["entry"]]


def ignored(report: BundleReport) -> list[tuple[str, str]]:
    return [(item.entry.resource_type, item.reason.value) for item in report.ignored]


def refer(url: str) -> dict[str, str]:
    return {"reference": url}


# rule 1: a finished Encounter


def test_a_finished_encounter_with_its_resources_becomes_a_note() -> None:
    note = only_note(visit_bundle(o1=observation("urn:x:e1")))
    assert (note.kind, note.is_visit, note.entries) == (NoteKind.ENCOUNTER, True, 2)
    assert urls(note) == ["urn:x:e1", "urn:x:o1"]


def test_a_note_is_a_collection_bundle_that_says_its_kind() -> None:
    content = parse_object(only_note(visit_bundle()).content)
    assert (content["resourceType"], content["type"]) == ("Bundle", "collection")
    assert note_kind(content) is NoteKind.ENCOUNTER
    assert amended_note_id(content) is None
    assert content["entry"][0].keys() == {"fullUrl", "resource"}


@pytest.mark.parametrize("status", ["planned", "in-progress", "cancelled", None, 3, ["finished"]])
def test_an_encounter_that_is_not_finished_is_reported_with_all_that_is_its(status: Any) -> None:
    resources = {"urn:x:e1": encounter(status=status), "urn:x:o1": observation("urn:x:e1")}
    report = report_on(bundle(resources))
    assert not report.notes
    assert ignored(report) == [("Encounter", "encounter-not-finished"), ("Observation", "encounter-not-finished")]


def test_notes_go_in_by_period_start_whatever_the_offset_and_then_by_full_url() -> None:
    starts = {"d": "2024-01-01T00:30:00+02:00", "c": "2024", "b": "2024-01-01T00:00:00Z", "a": "2023-12-31T23:00:00.5Z"}
    report = report_on(bundle({f"urn:x:{name}": encounter(start) for name, start in starts.items()}))
    assert [note.note_key for note in report.notes] == ["urn:x:d", "urn:x:a", "urn:x:b", "urn:x:c"]


def test_an_encounter_without_a_period_goes_in_last() -> None:
    without = encounter()
    del without["period"]
    report = report_on(bundle({"urn:x:a": without, "urn:x:b": encounter()}))
    assert [note.note_key for note in report.notes] == ["urn:x:b", "urn:x:a"]
    assert report.notes[1].period_start is None


# rule 2: what names the Encounter


def test_a_resource_that_names_the_encounter_by_type_and_id_is_its_too() -> None:
    resources = {"urn:x:e1": encounter(id="e-1"), "urn:x:o1": observation("Encounter/e-1")}
    assert urls(only_note(bundle(resources))) == ["urn:x:e1", "urn:x:o1"]


def test_a_resource_that_calls_its_encounter_context_is_its_too() -> None:
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": {"title": "x"}}],
        "context": {"encounter": [refer("urn:x:e1")]},
    }
    medication = {
        "resourceType": "MedicationStatement",
        "status": "active",
        "medicationCodeableConcept": {"text": "x"},
        "subject": refer(PATIENT_URL),
        "context": refer("urn:x:e1"),
    }
    assert urls(only_note(visit_bundle(d=document, m=medication))) == ["urn:x:e1", "urn:x:d", "urn:x:m"]


@pytest.mark.parametrize("resource_type", ["Claim", "ExplanationOfBenefit", "Coverage"])
def test_financial_resources_are_ignored_even_with_the_encounter(resource_type: str) -> None:
    report = report_on(visit_bundle(f={"resourceType": resource_type, "encounter": refer("urn:x:e1")}))
    assert ignored(report) == [(resource_type, "financial")]
    assert [urls(note) for note in report.notes] == [["urn:x:e1"]]


# rule 3: what points into the note


def lab_report(*results: str) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "x"},
        "subject": refer(PATIENT_URL),
        "result": [refer(url) for url in results],
    }


def care_plan(encounter_url: str, *goals: str) -> dict[str, Any]:
    return {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "subject": refer(PATIENT_URL),
        "encounter": refer(encounter_url),
        "goal": [refer(url) for url in goals],
    }


def goal() -> dict[str, Any]:
    return {
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": {"text": "x"},
        "subject": refer(PATIENT_URL),
    }


def test_a_report_whose_results_are_all_in_the_note_is_in_it() -> None:
    note = only_note(visit_bundle(o1=observation("urn:x:e1"), r=lab_report("urn:x:o1")))
    assert urls(note) == ["urn:x:e1", "urn:x:r", "urn:x:o1"]


@pytest.mark.parametrize("results", [("urn:x:o1", "urn:x:o2"), ("urn:x:o1", "urn:elsewhere"), ()])
def test_a_report_whose_results_are_elsewhere_too_is_background(results: tuple[str, ...]) -> None:
    resources = {
        "urn:x:e1": encounter(),
        "urn:x:e2": encounter("2025-01-01T00:00:00Z"),
        "urn:x:o1": observation("urn:x:e1"),
        "urn:x:o2": observation("urn:x:e2"),
        "urn:x:r": lab_report(*results),
    }
    report = report_on(bundle(resources))
    assert [note.kind.value for note in report.notes] == ["encounter", "encounter", "background"]
    assert urls(report.notes[2]) == ["urn:x:r"]


def test_goals_that_a_care_plan_names_are_in_its_note_and_in_each_such_note() -> None:
    resources = {
        "urn:x:e1": encounter(),
        "urn:x:e2": encounter("2025-01-01T00:00:00Z"),
        "urn:x:p1": care_plan("urn:x:e1", "urn:x:g"),
        "urn:x:p2": care_plan("urn:x:e2", "urn:x:g", "urn:elsewhere"),
        "urn:x:g": goal(),
    }
    report = report_on(bundle(resources))
    assert [urls(note) for note in report.notes] == [
        ["urn:x:e1", "urn:x:p1", "urn:x:g"],
        ["urn:x:e2", "urn:x:p2", "urn:x:g"],
    ]


# rule 4: who is referred to


def test_practitioners_and_organizations_are_copied_into_every_note_that_refers_to_them() -> None:
    resources = {
        "urn:x:e1": encounter(serviceProvider=refer("urn:x:org")),
        "urn:x:e2": encounter("2025-01-01T00:00:00Z", participant=[{"individual": refer("urn:x:doc")}]),
        "urn:x:o2": observation("urn:x:e2", performer=[refer("urn:x:org")]),
        "urn:x:org": {"resourceType": "Organization", "name": "x"},
        "urn:x:doc": {"resourceType": "Practitioner", "active": True},
        "urn:x:other": {"resourceType": "Practitioner", "active": True},
    }
    report = report_on(bundle(resources))
    assert [urls(note) for note in report.notes] == [
        ["urn:x:e1", "urn:x:org"],
        ["urn:x:e2", "urn:x:o2", "urn:x:org", "urn:x:doc"],
    ]
    assert ignored(report) == [("Practitioner", "administrative")]


def test_references_to_other_notes_stay_as_they_are() -> None:
    resources = {
        "urn:x:e1": encounter(),
        "urn:x:e2": encounter("2025-01-01T00:00:00Z", partOf=refer("urn:x:e1")),
    }
    second = parse_object(report_on(bundle(resources)).notes[1].content)
    assert second["entry"][0]["resource"]["partOf"] == refer("urn:x:e1")
    assert len(second["entry"]) == 1


# what is left over


def allergy(**more: Any) -> dict[str, Any]:
    return {"resourceType": "AllergyIntolerance", "patient": refer(PATIENT_URL), "code": {"text": "fish"}, **more}


def test_what_is_left_over_and_clinical_becomes_one_background_note_that_is_no_visit() -> None:
    report = report_on(visit_bundle(a=allergy(), o=observation(None), l={"resourceType": "Location"}))
    background = report.notes[-1]
    assert (background.kind, background.is_visit, background.period_start) == (NoteKind.BACKGROUND, False, None)
    assert urls(background) == ["urn:x:a", "urn:x:o"]
    assert ignored(report) == [("Location", "administrative")]


def test_a_resource_of_an_encounter_that_is_elsewhere_is_background() -> None:
    report = report_on(visit_bundle(o=observation("urn:elsewhere")))
    assert [note.kind.value for note in report.notes] == ["encounter", "background"]


def test_the_patient_is_found_and_is_in_no_note() -> None:
    report = report_on(visit_bundle())
    assert report.patient is not None
    assert report.patient.resource == patient()
    assert PATIENT_URL not in urls(report.notes[0])


# refusals


def test_a_note_with_one_resource_that_does_not_validate_is_refused_whole_and_the_others_go_in() -> None:
    resources = {
        PATIENT_URL: patient(),
        "urn:x:e1": encounter(),
        "urn:x:bad": observation("urn:x:e1", value="SECRET"),
        "urn:x:good": observation("urn:x:e1"),
        "urn:x:e2": encounter("2025-01-01T00:00:00Z"),
    }
    report = report_on(bundle(resources))
    assert [note.note_key for note in report.notes] == ["urn:x:e2"]
    (refused,) = report.refused
    (problem,) = refused.problems
    assert (refused.kind, refused.position) == (NoteKind.ENCOUNTER, 1)
    assert (problem.position, problem.resource_type, problem.field) == (2, "Observation", "valueQuantity.value")
    assert "SECRET" not in repr(report.refused)


@pytest.mark.parametrize(
    "start", [1234, True, {}, "yesterday", "2024-13-01", "2024-01-01T10:00:00", "0000", "٢٠٢٤", ""]
)
def test_an_encounter_whose_start_is_no_time_is_refused(start: Any) -> None:
    report = report_on(bundle({"urn:x:e1": encounter(start)}))
    assert not report.notes
    assert "period.start" in {problem.field for problem in report.refused[0].problems}


def test_a_note_about_another_person_is_refused() -> None:
    resources = {
        PATIENT_URL: patient(),
        "urn:x:e1": encounter(),
        "urn:x:o1": observation("urn:x:e1", subject=refer("urn:somebody-else")),
        "urn:x:e2": encounter("2025-01-01T00:00:00Z", subject=refer("urn:somebody-else")),
    }
    report = report_on(bundle(resources))
    assert not report.notes
    assert [item.problems[0].reason for item in report.refused] == ["another-subject", "another-subject"]


def test_without_a_patient_all_resources_of_a_note_must_name_the_same_person() -> None:
    same = {"urn:x:e1": encounter(), "urn:x:o1": observation("urn:x:e1")}
    assert report_on(bundle(same)).notes
    other = {**same, "urn:x:o1": observation("urn:x:e1", subject=refer("urn:somebody-else"))}
    assert report_on(bundle(other)).refused


def test_a_note_over_its_limit_is_refused() -> None:
    long = observation("urn:x:e1", note=[{"text": "x" * NOTE_MAX_BYTES}])
    assert report_on(visit_bundle(o=long)).refused[0].problems[0].reason == "note-too-large"


def test_the_same_encounter_twice_in_a_bundle_is_one_note_and_a_refusal() -> None:
    same = [{"system": "urn:s", "value": "1"}]
    report = report_on(bundle({"urn:x:e1": encounter(identifier=same), "urn:x:e2": encounter(identifier=same)}))
    assert [note.note_key for note in report.notes] == ["urn:s|1"]
    assert report.refused[0].problems[0].reason == "encounter-repeated"


def test_an_unknown_kind_of_resource_is_refused_without_repeating_what_it_was_called() -> None:
    report = report_on(visit_bundle(x={"resourceType": "SECRET", "encounter": refer("urn:x:e1")}))
    assert report.refused[0].problems[0].resource_type == "unknown"
    assert "SECRET" not in repr(report.refused)


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        [],
        "x",
        {},
        {"resourceType": "Patient"},
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "type": "history", "entry": []},
        {"resourceType": "Bundle", "type": ["collection"], "entry": []},
        {"resourceType": "Bundle", "type": "collection", "entry": {}},
        {"resourceType": "Bundle", "type": "collection", "entry": [None]},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:x:1"}]},
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "urn:x:1", "resource": {"resourceType": 1}}],
        },
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient()}]},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "", "resource": patient()}]},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:x:1", "resource": patient()}] * 2},
        bundle({"urn:x:1": patient(), "urn:x:2": patient()}),
        bundle({"urn:x:1": encounter(id="a"), "urn:x:2": encounter(id="a")}),
    ],
)
def test_a_malformed_bundle_is_refused_whole(malformed: Any) -> None:
    with pytest.raises(BundleMalformed):
        notes_from_bundle(malformed)


def test_resources_are_taken_unmodified() -> None:
    written = encounter(
        "2024-05-06T10:00:00+00:00",
        text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">é</div>'},
    )
    note = only_note(bundle({"urn:x:e1": written, "urn:x:o1": observation("urn:x:e1")}))
    assert parse_object(note.content)["entry"][0]["resource"] == written
    raw = encoded(visit_bundle(o1=observation("urn:x:e1"))).replace(b'"value": 1,', b'"value": 1.0,')
    assert b'"value":1.0' in notes_from_bundle(parse(raw)).notes[0].content


@given(st.permutations(range(5)))
def test_the_order_of_a_bundles_entries_changes_nothing(order: list[int]) -> None:
    value = visit_bundle(o1=observation("urn:x:e1"), o2=observation("urn:x:e1"), a=allergy())
    entries = value["entry"]
    contents = [note.content for note in report_on(value).notes]
    value["entry"] = [entries[index] for index in order]
    assert [note.content for note in report_on(value).notes] == contents


def test_a_note_becomes_the_same_note_again() -> None:
    note = only_note(visit_bundle(o1=observation("urn:x:e1")))
    again = only_note(parse(note.content))
    assert (again.content, again.note_key) == (note.content, note.note_key)


FIELDS = ["encounter", "context", "subject", "reference", "result", "goal", "period", "start", "identifier", "system"]
json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(FIELDS), json_value, max_size=6),
    st.sampled_from(["Encounter", "CarePlan", "Patient", "Goal"]),
)
def test_no_shape_of_input_breaks_the_grouping(fields: dict[str, Any], resource_type: str) -> None:
    hostile = {**fields, "resourceType": resource_type, "status": "finished"}
    report = notes_from_bundle(parse(canonical_bytes(bundle({"urn:x:1": hostile, "urn:x:2": encounter()}))))
    assert len(report.notes) + len(report.refused) + len(report.ignored) >= 1


def test_after_thousands_of_mistakes_no_more_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "PROBLEMS_MAX", 3)
    validator = Validator()

    def reasons(position: int, mistakes: int) -> list[str]:
        resource = {"resourceType": "Patient", "name": [1] * mistakes}
        return [problem.reason for problem in validator.problems(Entry(position, "", resource))]

    assert len(reasons(0, 3)) == 3
    assert reasons(1, 3) == ["too-many-mistakes"]
    assert Validator().problems(Entry(0, "", {"resourceType": "Patient", "name": [1] * 4}))[0].reason == (
        "too-many-mistakes"
    )
