"""Calls of the records API as tests make them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
from support.fhir_samples import bundle, encounter, observation
from support.records_hospital import Person, RecordsHospital


def note_bundle(identifier: str = "1", value: Any = 1, start: str = "2024-05-06T10:00:00Z") -> dict[str, Any]:
    """A visit, without a Patient: any EMR takes it."""
    visit = encounter(start, identifier=[{"system": "urn:visits", "value": identifier}])
    return bundle({"urn:x:e1": visit, "urn:x:o1": observation("urn:x:e1", value)})


async def post_note(
    where: RecordsHospital | httpx.AsyncClient,
    person: Person,
    emr_id: str | None,
    body: Any,
    *,
    key: str = "",
    **headers: str,
) -> httpx.Response:
    """``body`` is bytes, or a value to be sent as JSON; without ``key`` each call has its own Idempotency-Key."""
    return await _post(where, person, f"/emrs/{emr_id}/notes", body, key, headers)


async def post_import(
    hospital: RecordsHospital, person: Person, emr_id: str | None, body: Any, *, key: str = ""
) -> httpx.Response:
    return await _post(hospital, person, f"/emrs/{emr_id}/imports", body, key, {})


async def post_disclosure(
    hospital: RecordsHospital, person: Person, owner_msp: str, patient_id: str | None, *, key: str = ""
) -> httpx.Response:
    body = {"ownerMsp": owner_msp, "patientId": patient_id, "purpose": "TREAT"}
    return await _post(hospital, person, "/disclosures", body, key, {})


async def get(hospital: RecordsHospital, person: Person, path: str) -> httpx.Response:
    return await hospital.http.get(path, headers=person.headers())


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and stable code of a problem."""
    return response.status_code, response.json()["code"]


async def _post(
    where: RecordsHospital | httpx.AsyncClient, person: Person, path: str, body: Any, key: str, headers: dict[str, str]
) -> httpx.Response:
    http = where if isinstance(where, httpx.AsyncClient) else where.http
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = person.headers(Idempotency_Key=key or uuid.uuid4().hex, Content_Type="application/json", **headers)
    return await http.post(path, content=data, headers=sent, timeout=60)
