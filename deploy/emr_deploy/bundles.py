"""FHIR bundles as input: read from a folder or made by `carebundle`; patients admitted, histories imported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emr_model.clinical.canonical import canonical_bytes, parse
from emr_model.clinical.errors import ClinicalError

from emr_deploy.callers import Callers

IMPORT_SECONDS = 120.0
POLL_SECONDS = 0.1
IGNORED = "IGNORED"
PROFILES = ("hypertension", "type2_diabetes", "healthy", "ckd_stage3", "anaemia")


class BundleUnreadable(Exception):
    """A file holds no FHIR bundle with a patient; the text names the file, never its content."""


class ImportUnfinished(Exception):
    """An import did not end in time."""


@dataclass(frozen=True)
class PatientBundle:
    """A patient's bundle: where it comes from, its bytes, and the Patient resource in it with all digits kept."""

    source: str
    content: bytes = field(repr=False)
    patient: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Admitted:
    """A patient of a hospital, by the subject of their token and their ids on the ledger."""

    subject: str
    patient_id: str
    emr_id: str


@dataclass(frozen=True)
class Imported:
    """What became of a bundle: `notes` as the API answers them, `remarks` on resources that are in no note."""

    import_id: str
    notes: tuple[dict[str, Any], ...]
    remarks: tuple[dict[str, Any], ...]

    @property
    def added(self) -> list[dict[str, Any]]:
        return [one for one in self.notes if one["version"] is not None]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Notes that were not added, and resources for which a note was refused; not what is ignored by rule."""
        notes = [one for one in self.notes if one["code"]]
        return notes + [one for one in self.remarks if one["code"] != IGNORED]


def read_bundles(path: Path) -> list[PatientBundle]:
    """One bundle, or all `*.json` of a folder in the order of their names. Raises BundleUnreadable."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise BundleUnreadable(f"{path} holds no .json file")
    return [_patient_bundle(file.name, file.read_bytes()) for file in files]


def make_histories(count: int, *, seed: int) -> Iterator[PatientBundle]:
    """Synthetic patients with a course of visits each; the same ones for the same seed."""
    from carebundle.core.bundle import to_json  # its models take a second to load
    from carebundle.history import generate_history

    for index in range(count):
        history = generate_history(
            profile=PROFILES[index % len(PROFILES)],
            seed=seed,
            index=index,
            sex="FM"[index % 2],
            visits=3 + index % 4,
            interval_days=120,
        )
        yield _patient_bundle(f"history-{index + 1}", to_json(history).encode())


def _patient_bundle(source: str, content: bytes) -> PatientBundle:
    try:
        bundle = parse(content)
        resources = [entry["resource"] for entry in bundle["entry"]]
        patient = next(one for one in resources if one["resourceType"] == "Patient")
    except (ClinicalError, KeyError, TypeError, StopIteration) as error:
        raise BundleUnreadable(f"{source} holds no FHIR bundle with a patient") from error
    return PatientBundle(source, content, patient)


def admission(subject: str, bundle: PatientBundle) -> bytes:
    """The body with which a healthcenter registers the bundle's patient; all digits are kept."""
    return canonical_bytes({"subject": subject, "patient": bundle.patient})


async def admit(
    callers: Callers, organization: str, healthcenter: str, subject: str, bundle: PatientBundle
) -> Admitted:
    """Registers the patient; one who is registered already is looked up instead. Raises Refused."""
    body = admission(subject, bundle)
    answer = await callers.call(organization, healthcenter, "registration", "POST", "/patients", body)
    if answer.code == "PATIENT_ALREADY_REGISTERED":
        return await _look_up(callers, organization, healthcenter, subject, bundle)
    made = answer.required()
    return Admitted(subject, made["patientId"], made["emrId"])


async def _look_up(
    callers: Callers, organization: str, healthcenter: str, subject: str, bundle: PatientBundle
) -> Admitted:
    """By each identifier in turn: the hospital knows the patient by one of them."""
    found: dict[str, Any] = {}
    for identifier in bundle.patient.get("identifier", []):
        if "system" not in identifier or "value" not in identifier:
            continue
        body = {"identifier": {"system": identifier["system"], "value": identifier["value"]}}
        answer = await callers.call(organization, healthcenter, "registration", "POST", "/patients/lookup", body)
        if answer.code is None:
            found = answer.body
            break
    else:
        answer.required()
    return Admitted(subject, found["patientId"], found["emrId"])


async def import_notes(
    callers: Callers, organization: str, physician: str, emr_id: str, bundle: PatientBundle
) -> Imported:
    """Hands in the bundle and waits until every note of it is settled. Raises Refused, ImportUnfinished."""
    path = f"/emrs/{emr_id}/imports"
    accepted = (await callers.call(organization, physician, "records", "POST", path, bundle.content)).required()
    return await settled_import(callers, organization, physician, str(accepted["importId"]))


async def settled_import(callers: Callers, organization: str, physician: str, import_id: str) -> Imported:
    """What became of an import, once it has ended. Raises Refused, ImportUnfinished."""
    deadline = time.monotonic() + IMPORT_SECONDS
    while time.monotonic() < deadline:
        job = (await callers.call(organization, physician, "records", "GET", f"/imports/{import_id}")).required()
        if job["state"] in {"done", "failed"}:
            return Imported(import_id, tuple(job["notes"]), tuple(job["remarks"]))
        await asyncio.sleep(POLL_SECONDS)
    raise ImportUnfinished(f"import {import_id} has not ended within {IMPORT_SECONDS:.0f} s")
