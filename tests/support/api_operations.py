"""How every operation of the APIs is called about one EMR, in proper form: what the rows of the table "At the APIs" in
``docs/security.md`` stand for.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from hlf.crypto import new_private_key
from support.key_holder import request_of as certificate_request
from support.sharing_steps import PURPOSE, Steps

SIGNATURE = {"signature": base64.b64encode(b"none").decode()}
VISIT = {
    "resourceType": "Encounter",
    "status": "finished",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
    "period": {"start": "2024-05-06T10:00:00Z"},
}
BUNDLE = {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:x:1", "resource": VISIT}]}
PATIENTS_FUNCTIONS = {"registration": "RequestErasure", "records": "GetOwnEmr", "consent": "GetOwnSharings"}


@dataclass
class Case:
    """An EMR of hospital A and what belongs to it. ``receipt`` is of B's physician, or of nobody; ``transaction_id``
    one of A's physician's, ``staff_id`` somebody at A, ``profile`` A's own.
    """

    steps: Steps
    receipt: str
    transaction_id: str
    staff_id: str
    profile: dict[str, Any]

    @property
    def ids(self) -> dict[str, str]:
        """What stands in paths."""
        return {
            "emr": self.steps.patient.emr_id,
            "msp": self.steps.other_msp,
            "version": "1",
            "receipt": self.receipt,
            "transaction_id": self.transaction_id,
            "enrolment_id": self.staff_id,
            "import_id": "0" * 32,
            "event_id": "care/0/none/0",
            "job_id": "0" * 32,
            "webhook_id": f"of-{self.steps.patient.emr_id}",
        }


@dataclass(frozen=True)
class Request:
    service: str
    method: str
    path: str
    body: Any = None
    params: dict[str, str] | None = None


def request_of(operation: str, service: str, case: Case, role: str) -> Request:
    """``operation`` such as ``GET /emrs/{emr}``, at one of the services that offer it, by somebody of a role."""
    method, template = operation.split(" ")
    owner = case.steps.stack.msp_id("a")
    msp = owner if template.startswith("/organizations") else case.steps.other_msp
    path = template.format(**{**case.ids, "msp": msp})
    is_prepared = template == "/transactions/prepare"
    body = {"function": PATIENTS_FUNCTIONS[service]} if is_prepared else _body(operation, case, role)
    return Request(service, method, path, body, _params(operation, case, owner))


def _params(operation: str, case: Case, owner: str) -> dict[str, str] | None:
    found: dict[str, dict[str, str]] = {
        "GET /emrs": {"patientId": case.steps.patient.patient_id},
        "DELETE /emrs/{emr}/sharings/{msp}": {"why": "withdrawn"},
        "GET /me/visit-count": {"provider": owner},
    }
    return found.get(operation)


def _body(operation: str, case: Case, role: str) -> Any:
    stack, patient, version = case.steps.stack, case.steps.patient, case.steps.version
    unique = f"x-{secrets.token_hex(8)}"
    renewal = {"certificateRequest": certificate_request(role, new_private_key())}
    found: dict[str, Any] = {
        "POST /me/certificate/prepare": renewal,
        "PUT /me/certificate": {**renewal, **SIGNATURE},
        "PUT /organizations/{msp}": {name: case.profile[name] for name in ("name", "sealingKeys")},
        "POST /staff": {"subject": unique, "role": "physician"},
        "POST /patients": {"subject": unique, "patient": stack.patient_resource()},
        "POST /patients/lookup": {"patientId": patient.patient_id},
        "PUT /emrs/{emr}/demographics": {"patient": stack.patient_resource()},
        "PUT /emrs/{emr}/patient-key": {},
        "POST /emrs/search": {"familyName": unique},
        "POST /emrs/{emr}/notes": {"text": "Seen."},
        "POST /emrs/{emr}/imports": BUNDLE,
        "POST /disclosures": case.steps.wanted,
        "POST /access-requests": {**case.steps.wanted, "purpose": PURPOSE},
        "PUT /emrs/{emr}/sharings/{msp}/owner-approval": {"version": version},
        "PUT /me/sharings/{msp}/approval": {"version": version},
        "PUT /webhooks/{webhook_id}": {"url": "https://his.example/events"},
        "POST /verifications": {"erased": True, "emrId": patient.emr_id},
    }
    return SIGNATURE if "/transactions/{" in operation else found.get(operation)
