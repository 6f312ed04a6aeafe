"""Every operation of every service has an example of its body, its answers and its errors, and each is a true one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson
import pytest
from emr_common.openapi import operations
from emr_common.settings import Settings
from emr_consent.main import application as consent
from emr_consent.settings import ConsentSettings
from emr_indexer.main import application as indexer
from emr_indexer.settings import IndexerSettings
from emr_model.ledger.codes import Code
from emr_records.main import application as records
from emr_records.settings import RecordsSettings
from emr_registration.main import application as registration
from emr_registration.settings import RegistrationSettings
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from support.access_tables import AccessTables

NOWHERE = {
    "EMR_ORG_MSP_ID": "HospitalA",
    "EMR_LEDGER__ENDPOINTS": "127.0.0.1:1",
    "EMR_LEDGER__TLS_CA_FILE": "/nowhere",
    "EMR_LEDGER__IDENTITY_DIR": "/nowhere",
    "EMR_DATABASE__URL_FILE": "/nowhere",
    "EMR_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "EMR_KAFKA__TOPIC_PREFIX": "a",
    "EMR_AUTH__ISSUER": "https://issuer.example",
    "EMR_AUTH__AUDIENCE": "a",
    "EMR_WALLET__KEYSET_FILE": "/nowhere",
    "EMR_SEALING__WRAPPING_KEYSET_FILE": "/nowhere",
    "EMR_SEALING__PRIVATE_KEYSET_FILE": "/nowhere",
    "EMR_CA__URL": "https://127.0.0.1:1",
    "EMR_CA__REGISTRAR_DIR": "/nowhere",
    "EMR_PSEUDONYM__KEY_FILE": "/nowhere",
}
SERVICES: dict[str, tuple[Any, type[Settings]]] = {
    "registration": (registration, RegistrationSettings),
    "records": (records, RecordsSettings),
    "consent": (consent, ConsentSettings),
    "indexer": (indexer, IndexerSettings),
}
Document = dict[str, Any]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    application, settings = SERVICES[request.param]
    made: FastAPI = application(settings())
    return made


@pytest.fixture
def document(service: FastAPI) -> Document:
    return service.openapi()


def validate(document: Document, schema: Document, value: Any) -> None:
    whole = {"allOf": [schema], "components": {"schemas": document["components"]["schemas"]}}
    jsonschema_rs.validator_for(whole).validate(value)


def test_every_body_and_answer_has_an_example_that_its_schema_allows(document: Document) -> None:
    for path, method, operation in operations(document):
        contents = list(operation.get("requestBody", {}).get("content", {}).values())
        answers = [one for status, one in operation["responses"].items() if status.startswith("2")]
        assert answers, (method, path)
        for content in [*contents, *(one for answer in answers for one in answer.get("content", {}).values())]:
            example = content.get("example", content.get("examples"))
            assert example is not None, (method, path)
            if "schema" in content and "example" in content:
                validate(document, content["schema"], content["example"])


def test_the_example_of_a_body_is_one_that_the_service_takes(service: FastAPI, document: Document) -> None:
    taken = 0
    for route in _routes(service):
        if route.body_field is not None:
            [method] = route.methods or ("",)
            content = document["paths"][route.path][method.lower()]["requestBody"]["content"]
            adapter: TypeAdapter[Any] = TypeAdapter(route.body_field.field_info.annotation or Any)
            adapter.validate_json(orjson.dumps(content["application/json"]["example"]))
            taken += 1
    assert taken


def _routes(service: FastAPI) -> Iterator[APIRoute]:
    return (route for route in service.routes if isinstance(route, APIRoute))


def test_every_parameter_has_an_example_that_its_schema_allows(document: Document) -> None:
    for _, _, operation in operations(document):
        for parameter in operation.get("parameters", []):
            validate(document, parameter["schema"], parameter["example"])


def test_every_operation_shows_the_errors_that_it_may_answer(document: Document) -> None:
    examples = document["components"]["examples"]
    assert examples.keys() == {code.name for code in Code}
    for path, method, operation in operations(document):
        shown = {
            reference["$ref"].rpartition("/")[2]: int(status)
            for status, response in operation["responses"].items()
            if status.startswith(("4", "5"))
            for reference in response["content"]["application/problem+json"]["examples"].values()
        }
        assert {"TOKEN_INVALID", "ROLE_NOT_ALLOWED", "TOO_MANY_REQUESTS", "OVERLOADED"} <= shown.keys(), (method, path)
        assert all(Code[name].status == status for name, status in shown.items())
        assert operation["description"]
        assert ("requestBody" in operation) <= ("CONTENT_TOO_LARGE" in shown)


SEEN = {
    "GET /v1/emrs": Code.EMR_NOT_FOUND,
    "GET /v1/emrs/{emr}/notes": Code.ARGUMENT_INVALID,
    "GET /v1/disclosures/{receipt}/proof": Code.TRANSACTION_NOT_FOUND,
    "PUT /v1/me/sharings/{msp}/approval": Code.SHARING_WITH_SELF,
    "GET /v1/me/sharings/{msp}/preview": Code.ORGANIZATION_NOT_FOUND,
    "PUT /v1/emrs/{emr}/sharings/{msp}/owner-approval": Code.ORGANIZATION_NOT_FOUND,
    "POST /v1/patients": Code.CERTIFICATE_REQUEST_INVALID,
    "PUT /v1/emrs/{emr}/demographics": Code.PATIENT_ALREADY_REGISTERED,
    "POST /v1/me/erasure-request": Code.SIGNATURE_NEEDED,
    "POST /v1/transactions/{transaction_id}/submit": Code.STEP_NOT_READY,
}
"""Errors that a running system has answered."""


def test_errors_that_were_answered_are_described(document: Document) -> None:
    for path, method, operation in operations(document):
        code = SEEN.get(f"{method.upper()} {path}")
        if code is not None:
            examples = operation["responses"][str(code.status)]["content"]["application/problem+json"]["examples"]
            assert code.name in examples, (method, path)


@pytest.mark.parametrize("code", Code)
def test_the_example_of_an_error_is_a_problem_document(code: Code) -> None:
    from emr_common.openapi import PROBLEM_SCHEMA, example_of

    jsonschema_rs.validator_for(PROBLEM_SCHEMA).validate(example_of(code))
    assert example_of(code)["status"] == code.status


def test_who_may_call_an_operation_stands_in_the_table(document: Document) -> None:
    """Of ``docs/security.md``, whose cells ``tests/scenario/test_who_may_do_what.py`` tries. New here? Give it a row
    there, and what it takes in ``tests/support/api_operations.py``.
    """
    rows = AccessTables.under("At the APIs").by_person.keys()
    found = {f"{method.upper()} {path.removeprefix('/v1')}" for path, method, _ in operations(document)}
    assert found - rows == set()


FROM_THE_READ_MODEL = {
    "registration": set(),
    "records": {("post", "/v1/emrs/search")},
    "consent": {("get", "/v1/sharings")},
    "indexer": {("get", "/v1/position"), ("get", "/v1/dead-letters")},
}
"""Operations whose answers are rows; server-sent events carry the block that they tell of."""


def _members(document: Document, content: Document | None) -> set[str]:
    """Names of a JSON body's members."""
    schema = (content or {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    return set(document["components"]["schemas"].get(name, schema).get("properties", {}))


def test_an_answer_from_the_read_model_says_how_far_it_is_and_waits_when_asked(
    document: Document, request: pytest.FixtureRequest
) -> None:
    says, waits = set(), set()
    for path, method, operation in operations(document):
        if "as_of_block" in _members(document, operation["responses"].get("200")):
            says.add((method, path))
        parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
        if {"min_block", "minBlock"} & (parameters | _members(document, operation.get("requestBody"))):
            waits.add((method, path))
    assert says == waits == FROM_THE_READ_MODEL[request.node.callspec.params["service"]]
