"""Whole published bundles become notes, of the sizes measured in docs/clinical-notes.md."""

import statistics
import zlib
from datetime import date
from pathlib import Path

import carebundle
import pytest
from emr_model.clinical.canonical import canonical_bytes, parse, parse_object
from emr_model.clinical.demographics import demographics_content, patient_from_bundle
from emr_model.clinical.facts import note_facts
from emr_model.clinical.identifiers import recognized_identifier
from emr_model.clinical.notes import BundleReport, notes_from_bundle
from emr_model.clinical.report import check_bundle
from support.fhir_samples import SYNTHEA, synthea_files

FILES = synthea_files()
needs_synthea = pytest.mark.skipif(not FILES, reason=f"no sample bundles in {SYNTHEA.name} beside the checkout")


def reports() -> list[BundleReport]:
    return [notes_from_bundle(parse(path.read_bytes())) for path in FILES]


@needs_synthea
@pytest.mark.parametrize("path", FILES or [Path("absent")], ids=lambda path: path.stem[-36:])
def test_every_synthea_bundle_becomes_notes_and_demographics(path: Path) -> None:
    value = parse(path.read_bytes())
    report = notes_from_bundle(value)
    encounters = [entry for entry in value["entry"] if entry["resource"]["resourceType"] == "Encounter"]
    assert not report.refused
    assert sum(note.is_visit for note in report.notes) == len(encounters)
    assert {item.reason.value for item in report.ignored} <= {"financial"}
    assert parse(demographics_content(patient_from_bundle(value)))["resourceType"] == "Patient"
    assert recognized_identifier(patient_from_bundle(value), ["https://github.com/synthetichealth/synthea"]).value


@needs_synthea
@pytest.mark.parametrize("path", FILES or [Path("absent")], ids=lambda path: path.stem[-36:])
def test_no_resource_of_a_synthea_bundle_is_lost_or_changed(path: Path) -> None:
    value = parse(path.read_bytes())
    report = notes_from_bundle(value)
    taken = {
        entry["fullUrl"]: entry["resource"] for note in report.notes for entry in parse_object(note.content)["entry"]
    }
    ignored = {item.entry.full_url for item in report.ignored}
    for entry in value["entry"]:
        if entry["resource"]["resourceType"] != "Patient" and entry["fullUrl"] not in ignored:
            assert canonical_bytes(taken[entry["fullUrl"]]) == canonical_bytes(entry["resource"])


@needs_synthea
def test_synthea_notes_have_the_sizes_that_were_measured() -> None:
    encounters = [note for report in reports() for note in report.notes if note.is_visit]
    counts = [sum(note.is_visit for note in report.notes) for report in reports()]
    sizes = sorted(len(note.content) / 1000 for note in encounters)
    compressed = sorted(len(zlib.compress(note.content, 9)) / 1000 for note in encounters)
    assert (min(counts), statistics.median(counts), max(counts)) == (3, 9, 15)
    assert _quartet(sizes) == pytest.approx((2.2, 8.5, 25, 35), rel=0.06)
    assert _quartet(compressed) == pytest.approx((0.8, 1.7, 3.3, 4.1), rel=0.09)


@needs_synthea
def test_whole_synthea_records_have_the_sizes_that_were_measured() -> None:
    whole = [b"".join(note.content for note in report.notes) for report in reports()]
    compressed = [len(zlib.compress(content, 9)) / 1000 for content in whole]
    assert (min(map(len, whole)) / 1000, max(map(len, whole)) / 1000) == pytest.approx((49, 126), rel=0.02)
    assert (min(compressed), max(compressed)) == pytest.approx((4.5, 12), rel=0.15)


@needs_synthea
def test_the_one_allergy_of_the_synthea_bundles_is_background() -> None:
    background = [note for report in reports() for note in report.notes if not note.is_visit]
    assert [parse(note.content)["entry"][0]["resource"]["resourceType"] for note in background] == [
        "AllergyIntolerance"
    ]


@needs_synthea
def test_a_check_of_a_synthea_bundle_says_what_the_notes_say() -> None:
    check = check_bundle(FILES[0].read_bytes())
    report = notes_from_bundle(parse(FILES[0].read_bytes()))
    assert check.passes
    assert [line.size for line in check.notes] == [len(note.content) for note in report.notes]
    assert check.size == (check.demographics_size or 0) + sum(line.size for line in check.notes)
    assert {kind: count for kind, _, count in check.ignored} == {"Claim": 13, "ExplanationOfBenefit": 10}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("visits", [1, 4, 12])
def test_a_carebundle_history_becomes_a_note_for_every_visit(seed: int, visits: int) -> None:
    history = carebundle.generate_history(visits=visits, seed=seed, reference_date=date(2026, 6, 1))
    report = notes_from_bundle(parse(carebundle.to_json(history).encode()))
    facts = [note_facts(parse_object(note.content)) for note in report.notes]
    assert not report.refused
    assert [note.is_visit for note in report.notes] == [True] * visits
    starts = [item.period_start for item in facts if item.period_start]
    assert starts == sorted(starts)
    assert len(starts) == visits
    assert all(item.conditions for item in facts[:1])


@pytest.mark.parametrize("profile", sorted(carebundle.PROFILES))
def test_every_carebundle_profile_becomes_notes(profile: str) -> None:
    generated = carebundle.generate_bundle(profile=profile, seed=7)
    check = check_bundle(carebundle.to_json(generated).encode())
    assert check.passes, check.refused
    assert [note.kind for note in check.notes][:1] == ["encounter"]


def _quartet(values: list[float]) -> tuple[float, float, float, float]:
    """Least, median, 95th percentile and most of sorted values."""
    return values[0], statistics.median(values), values[int(len(values) * 0.95)], values[-1]
