"""What every service's ``/openapi.json`` says beside its routes' own types: who may call, how an error looks, and an
example of each body, answer and error. Made from the schemas, so that none can be missing or out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from emr_model.ledger.codes import Code
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from emr_common.problems import MEDIA_TYPE, Problem

Document = dict[str, Any]

METHODS = frozenset({"get", "post", "put", "delete", "patch"})
READING = (
    Code.MALFORMED_REQUEST, Code.ARGUMENT_INVALID, Code.TOKEN_INVALID, Code.IDENTITY_UNKNOWN, Code.CERTIFICATE_REFUSED,
    Code.ROLE_NOT_ALLOWED, Code.SIGNATURE_NEEDED, Code.NOT_FOUND, Code.VALIDATION_FAILED, Code.TOO_MANY_REQUESTS,
    Code.INTERNAL_ERROR, Code.OVERLOADED, Code.DATABASE_UNAVAILABLE, Code.LEDGER_UNAVAILABLE, Code.ISSUER_UNAVAILABLE,
)  # fmt: skip
WITH_A_BODY = (Code.REQUEST_TIMEOUT, Code.CONTENT_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE)
WRITING = (Code.CONFLICT, Code.TRANSACTION_INVALID, Code.HOSPITAL_UNAVAILABLE, Code.ENDORSEMENT_MISMATCH)
WITH_A_KEY = (Code.IDEMPOTENCY_KEY_MISSING, Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_IN_PROGRESS)
ABOUT_AN_EMR = (Code.EMR_NOT_FOUND, Code.EMR_NOT_OWNED, Code.EMR_ERASED)

OF_PATHS: Mapping[str, tuple[Code, ...]] = {
    "/v1/organizations": (Code.ORGANIZATION_NOT_FOUND, Code.ORGANIZATION_NOT_OWN),
    "/v1/staff": (
        Code.STAFF_NOT_FOUND, Code.SUBJECT_ALREADY_ENROLLED, Code.CERTIFICATE_REQUEST_INVALID, Code.CA_UNAVAILABLE
    ),
    "/v1/patients": (
        Code.PATIENT_ALREADY_REGISTERED, Code.PATIENT_NOT_REGISTERED, Code.SUBJECT_ALREADY_ENROLLED,
        Code.CERTIFICATE_REQUEST_INVALID, Code.CA_UNAVAILABLE,
    ),
    "/v1/me": (Code.PATIENT_KEY_NOT_BOUND, Code.EMR_NOT_FOUND, Code.EMR_ERASED),
    "/v1/me/erasure-request": (Code.ERASURE_REQUESTED, Code.ERASURE_NOT_REQUESTED),
    "/v1/me/visit-count": (Code.PROVIDER_NOT_OWN,),
    "/v1/me/sharings": (
        Code.SHARING_NOT_FOUND, Code.SHARING_ENDED, Code.SHARING_EXPIRED, Code.APPROVAL_VERSION_UNKNOWN,
        Code.SHARING_WITH_SELF, Code.ORGANIZATION_NOT_FOUND,
    ),
    "/v1/emrs": (
        Code.EMR_NOT_FOUND, Code.EMR_ERASED, Code.ERASURE_REQUESTED, Code.ERASURE_NOT_REQUESTED, Code.INDEX_BEHIND,
        Code.BLOCK_UNKNOWN,
    ),
    "/v1/emrs/{emr}/notes": (
        Code.NOTE_NOT_FOUND, Code.NOTE_ID_REUSED, Code.VERSION_CONFLICT, Code.BUNDLE_INVALID,
        Code.CONTENT_UNAVAILABLE, Code.CONTENT_MISMATCH,
    ),
    "/v1/emrs/{emr}/imports": (Code.BUNDLE_INVALID,),
    "/v1/emrs/{emr}/demographics": (Code.PATIENT_ALREADY_REGISTERED, Code.VERSION_CONFLICT),
    "/v1/emrs/{emr}/patient-key": (Code.CERTIFICATE_REQUEST_INVALID, Code.CA_UNAVAILABLE),
    "/v1/imports": (Code.IMPORT_NOT_FOUND,),
    "/v1/disclosures": (
        Code.ACCESS_NOT_GRANTED, Code.SNAPSHOT_PENDING, Code.SNAPSHOT_NOT_FOUND, Code.RECEIPT_INVALID,
        Code.RECEIPT_EXPIRED, Code.SHARING_WITH_SELF, Code.TRANSACTION_NOT_FOUND,
    ),
    "/v1/access-requests": (Code.ACCESS_NOT_GRANTED, Code.REQUEST_EXISTS, Code.SHARING_WITH_SELF),
    "/v1/sharings": (Code.INDEX_BEHIND, Code.BLOCK_UNKNOWN),
    "/v1/emrs/{emr}/sharings": (
        Code.SHARING_NOT_FOUND, Code.SHARING_ENDED, Code.SHARING_EXPIRED, Code.APPROVAL_VERSION_UNKNOWN,
        Code.RECIPIENT_KEY_UNKNOWN, Code.SHARING_WITH_SELF, Code.ORGANIZATION_NOT_FOUND,
    ),
    "/v1/webhooks": (Code.WEBHOOK_NOT_FOUND, Code.WEBHOOK_ADDRESS_REFUSED, Code.WEBHOOK_LIMIT),
    "/v1/transactions": (
        Code.TRANSACTION_NOT_FOUND, Code.SIGNATURE_INVALID, Code.STEP_NOT_READY, Code.PREPARATION_EXPIRED,
        Code.KEY_HELD_HERE,
    ),
}  # fmt: skip
"""What operations under a path may answer beside what all may."""

ID, TRANSACTION = "9f86d081884c7d659a2feaa0c55ad015", "4a5c" * 16
MOMENT = "2026-11-24T09:30:00Z"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [{"system": "http://hospital.smarthealthit.org", "value": "7b1f2c"}],
    "name": [{"family": "Moreno", "given": ["Ana"]}],
    "birthDate": "1975-04-02",
}
CERTIFICATE_REQUEST = """-----BEGIN CERTIFICATE REQUEST-----
MIHYMH8CAQAwHTEbMBkGA1UEAwwSZC1iYjI2MTJiNjIxN2YyZTNjMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAELuqoNfaHwCDtcXhSE7Sj6RZuDdLLtMjhiTf1oGlD
1URQOGKKKkNbp/G8qga2rHKGr3Iwn+kwHNGZQ+ZXa1uHHKAAMAoGCCqGSM49BAMC
A0kAMEYCIQDc6c/MWi5ULp91W8JzCID4rMoBOIR5b9Ms+uWfoIx2CgIhAI10KnL4
dh4XKrMmVj24pddolnZG4C/yiJZR0M0tT3ha
-----END CERTIFICATE REQUEST-----
"""
SIGNATURE = "MEUCIQDc6c/MWi5ULp91W8JzCID4rMoBOIR5b9Ms+uWfoIx2CgIgB4VZbTZpVc5x2wF5vgOQ6zV0b3jYx1nqk8Qm7dQkZ2E="
BY_NAME: Mapping[str, Any] = {
    "transactionId": TRANSACTION,
    "block": 42,
    "emrId": ID,
    "patientId": ID,
    "noteId": ID,
    "importId": ID,
    "enrolmentId": "p-9f86d081884c7d65",
    "ownerMsp": "HospitalA",
    "recipientMsp": "HospitalB",
    "mspId": "HospitalA",
    "msp": "HospitalB",
    "receipt": f"{ID}.{TRANSACTION}",
    "subject": "dr-mora",
    "patient": PATIENT,
    "demographics": PATIENT,
    "commitment": "c3ab" * 16,
    "sha256": "b2d9" * 16,
    "version": 3,
    "revision": 1,
    "webhookId": "front-desk",
    "url": "https://his.hospital-a.example/careledger",
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwqwQ3w0T5a1k=",
    "lastFailure": "STATUS_503",
    "function": "AddEmrNote",
    "as_of_block": 42,
    "certificateRequest": CERTIFICATE_REQUEST,
    "signature": SIGNATURE,
    "identifier": {"system": "http://hospital.smarthealthit.org", "value": "7b1f2c"},
    "familyName": "Moreno",
    "givenName": "Ana",
    "givenNames": "Ana",
    "birthDate": "1975-04-02",
    "conditionCode": "38341003",
    "medicationCode": "197361",
    "expiresAt": "2036-11-24T09:30:00Z",
    "isParked": False,
    "parkedEmrs": 0,
    "parkedEmrIds": [],
}
PROBLEM_SCHEMA: Document = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Match `code`; every code is in docs/api/errors.md.",
    "required": ["type", "title", "status", "code", "detail", "requestId"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": [code.name for code in Code]},
        "detail": {"type": "string"},
        "requestId": {"type": ["string", "null"]},
        "transactionId": {"type": "string"},
        "hospital": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def describe(app: FastAPI) -> Callable[[], Document]:
    """What becomes ``app.openapi``: made once, when first asked for."""

    def document() -> Document:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            app.openapi_schema = _completed(made)
        return app.openapi_schema

    return document


def _completed(document: Document) -> Document:
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    components["examples"] = {code.name: {"summary": code.title, "value": example_of(code)} for code in Code}
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    document["security"] = [{"bearer": []}]
    for path, method, operation in operations(document):
        _complete(operation, path, method, components["schemas"])
    return document


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def _complete(operation: Document, path: str, method: str, schemas: Document) -> None:
    for content in _contents(operation):
        if "example" not in content and "examples" not in content:
            content["example"] = Sample(schemas).of(content.get("schema", {}))
    for parameter in operation.get("parameters", []):
        if "example" not in parameter:
            parameter["example"] = Sample(schemas).of(parameter["schema"], parameter["name"])
    responses = {status: one for status, one in operation["responses"].items() if not status.startswith(("4", "5"))}
    responses["default"] = _problems("Any other problem", ())
    for code in _codes(operation, path, method):
        status = str(code.status)
        responses.setdefault(status, _problems("", ()))
        responses[status]["content"][MEDIA_TYPE].setdefault("examples", {})[code.name] = {
            "$ref": f"#/components/examples/{code.name}"
        }
    operation["responses"] = responses


def _contents(operation: Document) -> Iterator[Document]:
    if "requestBody" in operation:
        yield from operation["requestBody"]["content"].values()
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            yield from response.get("content", {}).values()


def _problems(description: str, codes: tuple[Code, ...]) -> Document:
    content: Document = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"description": description or "Problem document", "content": {MEDIA_TYPE: content}}


def _codes(operation: Document, path: str, method: str) -> list[Code]:
    """Which errors an operation may answer. A route may name more in ``openapi_extra`` as ``x-errors``."""
    codes = [*READING]
    if "requestBody" in operation:
        codes += WITH_A_BODY
    if method != "get":
        codes += WRITING
    if any(one["name"].lower() == "idempotency-key" for one in operation.get("parameters", [])):
        codes += WITH_A_KEY
    if "{emr}" in path:
        codes += ABOUT_AN_EMR
    codes += [Code[name] for name in operation.get("x-errors", [])]
    return codes + [code for start, own in OF_PATHS.items() if f"{path}/".startswith(f"{start}/") for code in own]


def example_of(code: Code) -> Document:
    """The problem document, as it would be answered."""
    return {**Problem(code).document(), "requestId": "871a2af75e9d6a44d737329d87d63b40"}


class Sample:
    """A value that a schema allows; members that have a well-known name look as they do."""

    def __init__(self, schemas: Document) -> None:
        self._schemas = schemas

    def of(self, schema: Document, name: str = "", depth: int = 0) -> Any:
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        for key in ("example", "const", "default"):
            if schema.get(key) is not None:
                return schema[key]
        if name in BY_NAME and not ({"enum", "const"} & schema.keys()):
            return BY_NAME[name]
        for key in ("oneOf", "anyOf", "allOf"):
            if choices := [one for one in schema.get(key, []) if one.get("type") != "null"]:
                return self.of(choices[0], name, depth)
        return self._by_type(schema, name, depth)

    def _by_type(self, schema: Document, name: str, depth: int) -> Any:
        kind = schema.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            members = schema.get("properties", {}) if depth < 6 else {}
            return {key: self.of(one, key, depth + 1) for key, one in members.items()}
        if kind == "array":
            return [self.of(schema.get("items", {}), name.removesuffix("s"), depth + 1)]
        if kind in ("integer", "number"):
            return max(schema.get("minimum", 1), 1)
        if kind == "boolean":
            return True
        return _text(schema)


def _text(schema: Document) -> str:
    if schema.get("format") in {"date-time", "date"}:
        return MOMENT if schema["format"] == "date-time" else MOMENT[:10]
    pattern = schema.get("pattern", "")
    if "{64}" in pattern:
        return TRANSACTION
    if "{32}" in pattern:
        return ID
    return "HospitalB" if "A-Z" in pattern else "text"
