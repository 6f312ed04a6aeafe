"""`emr bundle check`, `emr bundle import`: FHIR bundles from files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from emr_network.home import Home

from emr_deploy.bundles import PatientBundle, admit, import_notes, read_bundles
from emr_deploy.callers import Callers
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError

if TYPE_CHECKING:
    from emr_model.clinical.report import BundleCheck

bundle_app = typer.Typer(help="FHIR R4 bundles from files.", no_args_is_help=True)
At = Annotated[Path, typer.Argument(help="A bundle, or a folder of them.", exists=True)]


def register(app: typer.Typer) -> None:
    app.add_typer(bundle_app, name="bundle")


@bundle_app.command()
def check(path: At, as_json: AsJson = False) -> None:
    """Say what each bundle would become, and why not; nothing is stored and nothing needs to run."""
    from emr_model.clinical.report import check_bundle

    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path} holds no .json file")
    checks = {file.name: check_bundle(file.read_bytes()) for file in files}
    out = Output(as_json=as_json)
    if as_json:
        out.result({name: {**asdict(one), "passes": one.passes, "size": one.size} for name, one in checks.items()})
    else:
        out.table([_row(position, one) for position, one in enumerate(checks.values(), start=1)])
        for position, (name, one) in enumerate(checks.items(), start=1):
            for line in _remarks(one):
                out.say(f"{position:3} {name}: {line}")
    if not all(one.passes for one in checks.values()):
        raise typer.Exit(1)


def _row(position: int, one: BundleCheck) -> dict[str, Any]:
    return {
        "bundle": position,
        "notes": len(one.notes),
        "visits": sum(note.is_visit for note in one.notes),
        "refused": len(one.refused),
        "ignored": sum(count for _, _, count in one.ignored),
        "bytes": one.size,
        "compressed": sum(note.compressed_size for note in one.notes),
    }


def _remarks(one: BundleCheck) -> list[str]:
    refused = [f"refused {note.kind}: {reason}" for note in one.refused for reason in note.reasons]
    ignored = [f"ignored {count} {resource_type}: {reason}" for resource_type, reason, count in one.ignored]
    return [*([one.error] if one.error else []), *refused, *ignored]


@bundle_app.command("import")
def import_bundles(
    path: At,
    org: Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")],
    healthcenter: Annotated[str, typer.Option(help="Who admits: a healthcenter's subject.")],
    physician: Annotated[str, typer.Option(help="Who adds the notes: a physician's subject.")],
    as_json: AsJson = False,
) -> None:
    """Register each bundle's patient, unless registered, and add its Encounters as notes."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    name = system.topology.organization(org).name
    rows = asyncio.run(_import(system, name, (healthcenter, physician), read_bundles(path)))
    out.rows(rows)
    if any(row["refused"] for row in rows):
        raise typer.Exit(1)


async def _import(
    system: System, organization: str, staff: tuple[str, str], bundles: Sequence[PatientBundle]
) -> list[dict[str, Any]]:
    """Patients one after another: their subjects at the issuer are named after their place in the folder."""
    healthcenter, physician = staff
    rows = []
    async with Callers(system.home, system.ports) as callers:
        for position, bundle in enumerate(bundles, start=1):
            subject = f"patient-{position}"
            admitted = await admit(callers, organization, healthcenter, subject, bundle)
            imported = await import_notes(callers, organization, physician, admitted.emr_id, bundle)
            rows.append(
                {
                    "bundle": position,
                    "subject": subject,
                    "patientId": admitted.patient_id,
                    "emrId": admitted.emr_id,
                    "notes": len(imported.added),
                    "refused": len(imported.refused),
                }
            )
    return rows
