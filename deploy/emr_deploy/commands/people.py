"""`emr org`, `emr staff`, `emr patient`: a hospital's people, through its registration API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from emr_network.enrolment import ADMIN
from emr_network.home import Home

from emr_deploy.administration.revoking import Revoking
from emr_deploy.callers import Answer, Callers
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError

org_app = typer.Typer(help="The hospitals on the ledger.", no_args_is_help=True)
staff_app = typer.Typer(help="A hospital's staff.", no_args_is_help=True)
patient_app = typer.Typer(help="A hospital's patients.", no_args_is_help=True)

Org = Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")]


def register(app: typer.Typer) -> None:
    app.add_typer(org_app, name="org")
    app.add_typer(staff_app, name="staff")
    app.add_typer(patient_app, name="patient")


@org_app.command("list")
def list_organizations(org: Org, as_json: AsJson = False) -> None:
    """List the hospitals as ORG's peer knows them."""
    answer = _call(org, ADMIN, "GET", "/organizations")
    rows = [
        {"mspId": one["mspId"], "name": one["name"], "sealing keys": len(one["sealingKeys"])}
        for one in answer["organizations"]
    ]
    Output(as_json=as_json).rows(rows)


@staff_app.command("add")
def add_staff(
    subject: Annotated[str, typer.Argument(help="The person's subject at the hospital's token issuer.")],
    role: Annotated[Literal["healthcenter", "physician", "admin"], typer.Option(help="What the person may do.")],
    org: Org,
    as_json: AsJson = False,
) -> None:
    """Enrol a member of staff."""
    answer = _call(org, ADMIN, "POST", "/staff", {"subject": subject, "role": role})
    Output(as_json=as_json).result(answer, str(answer["enrolmentId"]))


@staff_app.command("revoke")
def revoke_staff(
    enrolment_id: Annotated[str, typer.Argument(help="As emr staff add printed it.")],
    org: Org,
    as_json: AsJson = False,
) -> None:
    """Revoke a member of staff: the certificate counts nowhere from then on."""
    out = Output(as_json=as_json)
    answer = _call(org, ADMIN, "DELETE", f"/staff/{quote(enrolment_id, safe='')}")
    system = System(Home.from_environment())
    revoking = Revoking(system.home, system.topology, system.topology.organization(org), system.ports, out.say)
    asyncio.run(revoking.publish())
    system.deliver()
    out.result(answer, f"revoked {enrolment_id}")


@patient_app.command("add")
def add_patient(
    patient: Annotated[Path, typer.Argument(help="A FHIR R4 Patient, or a Bundle that holds one.", exists=True)],
    subject: Annotated[str, typer.Option(help="The patient's subject at the hospital's token issuer.")],
    actor: Annotated[str, typer.Option(help="Who admits the patient: a healthcenter's subject.")],
    org: Org,
    as_json: AsJson = False,
) -> None:
    """Enrol a patient and create the EMR."""
    body = {"subject": subject, "patient": _patient(patient)}
    answer = _call(org, actor, "POST", "/patients", body)
    Output(as_json=as_json).result(answer, *(f"{name} {value}" for name, value in answer.items()))


def _patient(path: Path) -> Any:
    """Digits of decimals do not matter in a Patient, so plain JSON will do. Raises UsageError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("resourceType") == "Patient":
            return content
        resources = [entry["resource"] for entry in content["entry"]]
        return next(one for one in resources if one["resourceType"] == "Patient")
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UsageError(f"{path} holds no FHIR Patient") from error


def _call(org: str, subject: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Raises Refused."""
    system = System(Home.from_environment())
    name = system.topology.organization(org).name

    async def call() -> Answer:
        async with Callers(system.home, system.ports) as callers:
            return await callers.call(name, subject, "registration", method, path, body)

    return asyncio.run(call()).required()
