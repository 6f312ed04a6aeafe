"""What `emr up` prints at the end: addresses, tokens, and a `curl` line for each step of both workflows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emr_network.enrolment import ADMIN
from emr_network.topology import Organization

from emr_deploy.callers import Callers
from emr_deploy.system import System

STAFF = ("healthcenter", "physician")
PATIENT = "patient"
APIS = ("registration", "records", "consent", "indexer")


@dataclass(frozen=True)
class Guide:
    urls: dict[str, dict[str, str]]
    """Hospital → service → base URL."""
    tokens: dict[str, dict[str, str]]
    """Hospital → actor → bearer token."""
    curl: list[tuple[str, str]]
    """What the step does, and the line that does it; the tokens stand in variables such as `$PHYSICIAN_A`."""

    def as_dict(self) -> dict[str, Any]:
        steps = [{"step": what, "curl": line} for what, line in self.curl]
        return {"urls": self.urls, "tokens": self.tokens, "steps": steps}

    def lines(self) -> Iterator[str]:
        yield "\nThe APIs"
        for organization, services in self.urls.items():
            for service, url in services.items():
                yield f"    {organization} {service:13}{url}/v1    {url}/openapi.json"
        yield "\nTokens (emr token ACTOR --org O makes more)"
        for organization, actors in self.tokens.items():
            for actor, token in actors.items():
                yield f"{variable(actor, organization)}={token}"
        yield "\nBoth workflows ($EMR, $PATIENT_ID, $RECEIPT: what answers before say of emrId, patientId, receipt)"
        for number, (what, line) in enumerate(self.curl, start=1):
            yield f"{number:3} {what}"
            yield f"    {line}"
        yield "\nemr status shows every process, emr down stops them, make demo tells the whole story."


async def guide(system: System) -> Guide:
    """Raises TokenRefused."""
    organizations = system.topology.organizations
    async with Callers(system.home, system.ports) as callers:
        urls = {one.name: {service: callers.url(service, one.name) for service in APIS} for one in organizations}
        tokens: dict[str, dict[str, str]] = {}
        for position, one in enumerate(organizations):
            actors = (ADMIN, *STAFF, *((PATIENT,) if position == 0 else ()))
            tokens[one.name] = {actor: await callers.token(one.name, actor) for actor in actors}
    return Guide(urls, tokens, list(_steps(urls, *organizations[:2])))


def variable(actor: str, organization: str) -> str:
    return f"{actor}_{organization}".upper()


def _steps(urls: dict[str, dict[str, str]], owner: Organization, other: Organization) -> Iterator[tuple[str, str]]:
    a, b = owner.name, other.name
    for organization in (a, b):
        for role in STAFF:
            body = {"subject": role, "role": role}
            call = _curl(urls, organization, ADMIN, "registration", "POST", "/staff", body)
            yield f"{organization.upper()} enrols a {role}", call
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": "http://hospital.smarthealthit.org", "value": "1"}],
        "name": [{"family": "Example", "given": ["Erin"]}],
        "gender": "female",
        "birthDate": "1980-02-29",
    }
    admission = {"subject": PATIENT, "patient": patient}
    yield "A registers a patient", _curl(urls, a, "healthcenter", "registration", "POST", "/patients", admission)
    yield "A's physician reads the EMR", _curl(urls, a, "physician", "records", "GET", "/emrs/$EMR")
    note = {"text": "Seen today."}
    yield "and adds a note", _curl(urls, a, "physician", "records", "POST", "/emrs/$EMR/notes", note)
    yield "the patient downloads it", _curl(urls, a, PATIENT, "records", "GET", "/me/emr")
    wanted = {"ownerMsp": owner.msp_id, "patientId": "$PATIENT_ID", "purpose": "TREAT"}
    read = _curl(urls, b, "physician", "records", "POST", "/disclosures", wanted)
    yield "B's physician tries to read: 403", read
    yield "and requests access", _curl(urls, b, "physician", "consent", "POST", "/access-requests", wanted)
    approval = {"version": 1}
    path = f"/emrs/$EMR/sharings/{other.msp_id}/owner-approval"
    yield "A approves", _curl(urls, a, "healthcenter", "consent", "PUT", path, approval)
    own = f"/me/sharings/{other.msp_id}"
    yield "the patient approves", _curl(urls, a, PATIENT, "consent", "PUT", f"{own}/approval", approval)
    yield "B's physician reads: a receipt", read
    yield "which opens the snapshot", _curl(urls, b, "physician", "records", "GET", "/disclosures/$RECEIPT/emr")
    yield "the patient sees who read", _curl(urls, a, PATIENT, "records", "GET", "/me/disclosures")
    yield "and removes the sharing", _curl(urls, a, PATIENT, "consent", "DELETE", own)


def _curl(
    urls: dict[str, dict[str, str]],
    organization: str,
    actor: str,
    service: str,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
) -> str:
    words = ["curl", "-sS", "-X", method, f'-H "Authorization: Bearer ${variable(actor, organization)}"']
    if method == "POST":
        words.append('-H "Idempotency-Key: $(cat /proc/sys/kernel/random/uuid)"')
    if body is not None:
        text = json.dumps(body).replace('"', '\\"')
        words += ['-H "Content-Type: application/json"', f'-d "{text}"']
    return " ".join([*words, f'"{urls[organization][service]}/v1{path}"'])
