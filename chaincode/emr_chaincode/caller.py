"""Who calls, as far as the rules care: taken from the certificate, which Fabric has checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from emr_model.ledger.refusals import Refused
from hlf.identity import Identity

ROLE_ATTRIBUTE = "emr.role"
PATIENT_ATTRIBUTE = "emr.patientId"


@dataclass(frozen=True, slots=True)
class Caller:
    """``enrolment_id`` is the certificate's common name, ``key`` the hex SHA-256 of its DER SubjectPublicKeyInfo.

    ``patient_id`` is the attribute of a patient's certificate, None for everyone else.
    """

    msp_id: str
    enrolment_id: str
    role: Role
    key: str
    patient_id: str | None = None


@lru_cache(maxsize=4096)
def caller_of(creator: Identity) -> Caller:
    """Raises ``Refused`` for a certificate that names no role of this contract."""
    try:
        attributes = creator.attributes
        enrolment_id = creator.common_name
        subject_key = creator.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise Refused(Code.ROLE_NOT_ALLOWED, "the certificate cannot be read") from None
    role = _role(attributes.get(ROLE_ATTRIBUTE, ""))
    return Caller(
        msp_id=creator.msp_id,
        enrolment_id=enrolment_id,
        role=role,
        key=hashlib.sha256(subject_key).hexdigest(),
        patient_id=attributes.get(PATIENT_ATTRIBUTE) if role is Role.PATIENT else None,
    )


def _role(attribute: str) -> Role:
    try:
        return Role(attribute)
    except ValueError:
        raise Refused(Code.ROLE_NOT_ALLOWED, "the certificate carries no role") from None
