"""Small FHIR bundles for tests, and where the large published ones are found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SYNTHEA = Path(__file__).parents[2].parent / "shared" / "data" / "synthea-r4"
"""The folder beside the checkout. Absent elsewhere: tests that need it are skipped, and counted."""

PATIENT_URL = "urn:uuid:00000000-0000-4000-8000-000000000001"
IDENTIFIER_SYSTEM = "http://hospital.example/mrn"


def synthea_files() -> list[Path]:
    return sorted(SYNTHEA.glob("*.json")) if SYNTHEA.is_dir() else []


def patient(value: str = "MRN-1", **more: Any) -> dict[str, Any]:
    identifiers = [{"system": IDENTIFIER_SYSTEM, "value": value}]
    return {"resourceType": "Patient", "identifier": identifiers, "birthDate": "1980-02-03", **more}


def encounter(start: str = "2024-05-06T10:00:00+02:00", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "type": [
            {"coding": [{"system": "http://snomed.info/sct", "code": "185345009", "display": "Encounter for symptom"}]}
        ],
        "subject": {"reference": PATIENT_URL},
        "period": {"start": start},
        **more,
    }


def observation(encounter_url: str | None, value: Any = 1, **more: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "Body height"},
        "subject": {"reference": PATIENT_URL},
        "valueQuantity": {"value": value, "unit": "cm"},
        **more,
    }
    return resource if encounter_url is None else {**resource, "encounter": {"reference": encounter_url}}


def bundle(resources: dict[str, dict[str, Any]] | Iterable[tuple[str, dict[str, Any]]], **more: Any) -> dict[str, Any]:
    """A transaction bundle of resources by fullUrl, in their order."""
    pairs = resources.items() if isinstance(resources, dict) else resources
    entries = [
        {"fullUrl": url, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
        for url, resource in pairs
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries, **more}


def visit_bundle(**resources: dict[str, Any]) -> dict[str, Any]:
    """A Patient, one finished Encounter at ``urn:x:e1``, and more resources at ``urn:x:<name>``."""
    more = {f"urn:x:{name}": resource for name, resource in resources.items()}
    return bundle({PATIENT_URL: patient(), "urn:x:e1": encounter(), **more})


def encoded(value: Any) -> bytes:
    """As a client would send it: any spacing, any order."""
    return json.dumps(value, indent=1).encode()
