"""The first workflow: patients arrive, are registered, read before the visit, noted after it; one downloads the EMR."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from emr_network.enrolment import ADMIN

from emr_deploy.bundles import Imported, PatientBundle, admission, admit, import_notes, settled_import
from emr_deploy.story.scene import Scene
from emr_deploy.story.telling import Actor

PATIENTS_AT_OTHER = 4
"""Every so many patients, one goes to the other hospital."""


@dataclass(frozen=True)
class ManagedEmr:
    """The EMR of the story's patient, at the version after the first visit."""

    emr_id: str
    version: int


async def enrol_staff(scene: Scene) -> None:
    scene.teller.chapter("The hospitals' people")
    cast = scene.cast
    for actor, role in (
        (cast.healthcenter, "healthcenter"),
        (cast.physician, "physician"),
        (cast.other_healthcenter, "healthcenter"),
        (cast.other_physician, "physician"),
    ):
        admin = Actor(actor.organization, ADMIN, f"{actor.organization.upper()}'s administrator")
        body = {"subject": actor.subject, "role": role}
        await scene.step(admin, f"enrols a {role}", "registration", "POST", "/staff", body, expected=201)


async def manage(scene: Scene) -> ManagedEmr:
    """The first patient step by step; meanwhile the others come, most to the first hospital, some to the second."""
    scene.teller.chapter("Managing an EMR")
    healthcenter, patient = scene.cast.healthcenter, scene.cast.patient
    body = admission(patient.subject, scene.bundles[0])
    what = "registers a patient and creates the EMR"
    made = await scene.step(healthcenter, what, "registration", "POST", "/patients", body, expected=201)
    await _others_come(scene)
    version = await _visit(scene, made["emrId"])
    await _patient_reads(scene)
    return ManagedEmr(made["emrId"], version)


async def _others_come(scene: Scene) -> None:
    others = list(enumerate(scene.bundles[1:], start=2))
    came = await asyncio.gather(*(_one_comes(scene, position, bundle) for position, bundle in others))
    at_other = sum(_goes_to_other(position) for position, _ in others)
    scene.teller.remark(
        f"meanwhile {len(others) - at_other} more patients come to {scene.owner.title} and {at_other} to "
        f"{scene.other.title}; their histories become {sum(len(one.added) for one in came)} notes"
    )
    if refused := sum(len(one.refused) for one in came):
        scene.teller.remark(f"{refused} notes or resources were refused: emr bundle check says why")


def _goes_to_other(position: int) -> bool:
    return position % PATIENTS_AT_OTHER == 0


async def _one_comes(scene: Scene, position: int, bundle: PatientBundle) -> Imported:
    cast = scene.cast
    healthcenter, physician = (
        (cast.other_healthcenter, cast.other_physician)
        if _goes_to_other(position)
        else (cast.healthcenter, cast.physician)
    )
    organization, subject = healthcenter.organization, scene.subject(f"patient-{position}")
    admitted = await admit(scene.callers, organization, healthcenter.subject, subject, bundle)
    imported = await import_notes(scene.callers, organization, physician.subject, admitted.emr_id, bundle)
    scene.remember(imported)
    return imported


async def _visit(scene: Scene, emr_id: str) -> int:
    """Returns the EMR's version after it."""
    physician, emr = scene.cast.physician, f"/emrs/{emr_id}"
    await _import_history(scene, emr)
    read = await scene.step(physician, "reads the EMR before the visit", "records", "GET", emr)
    scene.teller.remark(f"version {read['version']}, {read['visits']} of the notes are visits")
    note = {"text": "Seen today. Blood pressure is well controlled; treatment goes on unchanged."}
    return await add_note(scene, "adds a note after the visit", emr_id, note)


async def _import_history(scene: Scene, emr: str) -> None:
    physician = scene.cast.physician
    what, bundle = "hands in the patient's history", scene.bundles[0]
    path = f"{emr}/imports"
    accepted = await scene.step(physician, what, "records", "POST", path, bundle.content, expected=202)
    imported = await settled_import(scene.callers, physician.organization, physician.subject, accepted["importId"])
    scene.remember(imported)
    for note in imported.added:
        scene.teller.note(note["version"], note["transactionId"], note["block"])


async def add_note(scene: Scene, what: str, emr_id: str, note: dict[str, str]) -> int:
    """Returns the note's version."""
    path = f"/emrs/{emr_id}/notes"
    added = await scene.step(scene.cast.physician, what, "records", "POST", path, note, expected=201)
    return int(added["version"])


async def _patient_reads(scene: Scene) -> None:
    patient = scene.cast.patient
    download = await scene.step(patient, "downloads the updated EMR", "records", "GET", "/me/emr")
    scene.teller.remark(f"a FHIR Bundle of the Patient and {len(download['entry']) - 1} notes")
    provider = {"provider": scene.owner.msp_id}
    what = "asks how many visits there were"
    counted = await scene.step(patient, what, "records", "GET", "/me/visit-count", params=provider)
    scene.teller.remark(f"{counted['visits']} visits")
