from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from emr_common.settings import (
    AuthSettings,
    CaSettings,
    DatabaseSettings,
    LedgerSettings,
    PseudonymSettings,
    SealingSettings,
    WalletSettings,
)
from emr_registration.main import application
from emr_registration.schemas import PatientIn, StaffIn
from emr_registration.settings import RegistrationSettings
from fastapi import FastAPI
from pydantic import ValidationError

NOWHERE = Path("/nowhere")
DOCUMENTED = {
    "PUT /v1/organizations/{msp}",
    "GET /v1/organizations",
    "GET /v1/organizations/{msp}",
    "POST /v1/staff",
    "DELETE /v1/staff/{enrolment_id}",
    "POST /v1/patients",
    "POST /v1/patients/lookup",
    "POST /v1/me/certificate/prepare",
    "PUT /v1/me/certificate",
    "POST /v1/me/erasure-request",
    "DELETE /v1/me/erasure-request",
    "DELETE /v1/emrs/{emr}",
    "GET /v1/me",
    "PUT /v1/emrs/{emr}/demographics",
    "PUT /v1/emrs/{emr}/patient-key",
    "POST /v1/transactions/prepare",
    "POST /v1/transactions/{transaction_id}/endorse",
    "POST /v1/transactions/{transaction_id}/submit",
    "POST /v1/transactions/{transaction_id}/evaluate",
    "GET /v1/transactions/{transaction_id}",
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return application(
        RegistrationSettings(
            org_msp_id="HospitalA",
            ledger=LedgerSettings(endpoints=("127.0.0.1:1",), tls_ca_file=NOWHERE, identity_dir=NOWHERE),
            database=DatabaseSettings(url_file=NOWHERE),
            auth=AuthSettings(issuer="i", audience="a", jwks_url="http://127.0.0.1:1"),
            wallet=WalletSettings(keyset_file=NOWHERE),
            sealing=SealingSettings(wrapping_keyset_file=NOWHERE),
            ca=CaSettings(url="http://127.0.0.1:1", registrar_dir=NOWHERE),
            pseudonym=PseudonymSettings(key_file=NOWHERE, identifier_systems=("urn:mrn",)),
        )
    )


def operations(app: FastAPI) -> dict[str, dict[str, Any]]:
    paths = app.openapi()["paths"]
    return {f"{method.upper()} {path}": op for path, methods in paths.items() for method, op in methods.items()}


def test_the_api_is_the_documented_one(app: FastAPI) -> None:
    assert operations(app).keys() == DOCUMENTED


def test_every_operation_says_what_it_does(app: FastAPI) -> None:
    assert all(operation["description"] for operation in operations(app).values())


@pytest.mark.parametrize("operation", ["POST /v1/staff", "POST /v1/patients", "POST /v1/me/erasure-request"])
def test_writing_posts_ask_for_an_idempotency_key(app: FastAPI, operation: str) -> None:
    names = {parameter["name"] for parameter in operations(app)[operation]["parameters"]}
    assert "Idempotency-Key" in names


def test_a_body_that_is_read_strictly_is_documented_all_the_same(app: FastAPI) -> None:
    body = operations(app)["POST /v1/patients"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["subject", "patient"]
    assert body["additionalProperties"] is False


def test_identifiers_of_persons_stand_in_no_path_or_query(app: FastAPI) -> None:
    allowed = {"msp", "emr", "enrolment_id", "transaction_id", "Idempotency-Key"}
    described = json.loads(json.dumps(operations(app)))
    names = {one["name"] for operation in described.values() for one in operation.get("parameters", [])}
    assert names <= allowed


@pytest.mark.parametrize("subject", ["", "dr-mora\n", "a\tb", "a\u202eb", "x" * 256])
def test_nobody_is_enrolled_under_a_subject_that_no_token_can_have(subject: str) -> None:
    with pytest.raises(ValidationError):
        StaffIn(subject=subject, role="physician")
    with pytest.raises(ValidationError):
        PatientIn(subject=subject, patient={})
