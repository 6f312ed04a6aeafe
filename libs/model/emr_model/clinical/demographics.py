"""Demographics: the canonical bytes of one FHIR Patient, as it came in."""

from __future__ import annotations

from typing import Any

from emr_model.clinical.bundle import Bundle, Entry, read_bundle
from emr_model.clinical.canonical import JsonObject, canonical_bytes
from emr_model.clinical.errors import BundleMalformed, DemographicsInvalid
from emr_model.clinical.limits import NOTE_MAX_BYTES
from emr_model.clinical.validation import Validator


def patient_of(bundle: Bundle) -> Entry | None:
    """The bundle's Patient, if it has one. Raises BundleMalformed for two: an EMR is of one person."""
    patients = bundle.of_type("Patient")
    if len(patients) > 1:
        raise BundleMalformed("the bundle has more than one Patient")
    return patients[0] if patients else None


def patient_from_bundle(value: Any) -> JsonObject:
    """The Patient resource of a parsed bundle. Raises BundleMalformed, or DemographicsInvalid without a Patient."""
    entry = patient_of(read_bundle(value))
    if entry is None:
        raise DemographicsInvalid("the bundle has no Patient")
    return entry.resource


def demographics_content(patient: JsonObject) -> bytes:
    """The canonical bytes of a Patient that validates. Raises DemographicsInvalid, naming fields only."""
    if patient.get("resourceType") != "Patient":
        raise DemographicsInvalid("not a FHIR Patient")
    problems = Validator().problems(Entry(0, "", patient))
    if problems:
        fields = ", ".join(sorted({problem.field or "Patient" for problem in problems}))
        raise DemographicsInvalid(f"the Patient does not validate: {fields}")
    content = canonical_bytes(patient)
    if len(content) > NOTE_MAX_BYTES:
        raise DemographicsInvalid(f"the Patient is over {NOTE_MAX_BYTES} bytes")
    return content
