"""Bodies of the registration API. Strict: an unknown member is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from emr_common.tokens import LONGEST_SUBJECT, checked_subject
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

MspId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", examples=["HospitalA"])]
LedgerId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", examples=["9f86d081884c7d659a2feaa0c55ad015"])]
EnrolmentId = Annotated[str, Field(pattern=r"^[a-z]+(-[0-9a-f]{16})?$", examples=["h-9f86d081884c7d65"])]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["2026-11"])]
Subject = Annotated[
    str, Field(min_length=1, max_length=LONGEST_SUBJECT, examples=["dr-mora"]), AfterValidator(checked_subject)
]


class Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


CertificateRequestPem = Annotated[
    str | None,
    Field(
        max_length=4096,
        description="PEM (PKCS#10) of a P-256 key that stays with its holder; the subject is a common name alone: the "
        "role's first letter, a hyphen, 16 hexadecimal digits by chance. Without it the hospital makes and keeps a key",
    ),
]


class SealingKeyBody(Body):
    """``keyset`` is base64 of Tink's binary form of a public hybrid keyset."""

    id: KeyId
    keyset: str = Field(max_length=8192)


class OrganizationIn(Body):
    name: str = Field(min_length=1, max_length=200, examples=["Hospital A"])
    sealing_keys: list[SealingKeyBody] = Field(max_length=16, description="The newest last")


class OrganizationOut(Body):
    msp_id: MspId
    name: str
    sealing_keys: list[SealingKeyBody]


class OrganizationsOut(Body):
    organizations: list[OrganizationOut]


class StaffIn(Body):
    subject: Subject = Field(description="The person's subject at the hospital's token issuer")
    role: Literal["healthcenter", "physician", "admin"]
    certificate_request: CertificateRequestPem = None


class PatientIn(Body):
    subject: Subject = Field(description="The patient's subject at the hospital's token issuer")
    patient: dict[str, Any] = Field(description="A FHIR R4 Patient, kept as it is")
    certificate_request: CertificateRequestPem = None


class IdentifierIn(Body):
    system: str = Field(min_length=1, max_length=500)
    value: str = Field(min_length=1, max_length=500)


class LookupIn(Body):
    """One of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"identifier": {"system": "http://hospital.smarthealthit.org", "value": "7b1f2c"}}]
        }
    )

    identifier: IdentifierIn | None = None
    patient_id: LedgerId | None = None

    @model_validator(mode="after")
    def _has_exactly_one(self) -> LookupIn:
        if (self.identifier is None) == (self.patient_id is None):
            raise ValueError("give either an identifier or a patientId")
        return self


class DemographicsIn(Body):
    patient: dict[str, Any] = Field(description="The whole FHIR R4 Patient, which replaces the one before")
    expected_revision: Annotated[int, Field(ge=1, lt=10**10)] | None = Field(
        default=None, description="The revision that is replaced; without it the current one"
    )


class PatientKeyIn(Body):
    """How the patient's next key comes to be."""

    certificate_request: CertificateRequestPem = None


class RenewalIn(Body):
    """For callers who keep their own key. A patient's is of the same key, staff may take another."""

    certificate_request: str = Field(
        max_length=4096, description="PEM (PKCS#10), its common name the caller's enrolment id"
    )


class SignedRenewalIn(RenewalIn):
    signature: str = Field(
        max_length=200, description="Base64 of the DER signature, ECDSA on P-256 over SHA-256 of the bytes to sign"
    )


class RenewalToSignOut(Body):
    bytes: str = Field(description="Base64 of what is to be signed by the key of the present certificate")
    digest: str = Field(description="SHA-256 of these bytes, hex")


class CertificateOut(Body):
    enrolment_id: EnrolmentId
    certificate: str = Field(description="The caller's Fabric certificate from now on, PEM")
    expires_at: datetime


class LookupOut(Body):
    patient_id: LedgerId
    emr_id: LedgerId


class Written(Body):
    """The answer to every write: it is committed."""

    transaction_id: str = Field(pattern="^[0-9a-f]{64}$")
    block: int


class StaffOut(Body):
    enrolment_id: EnrolmentId


class PatientOut(Written):
    patient_id: LedgerId
    emr_id: LedgerId
    enrolment_id: EnrolmentId


class DemographicsOut(Written):
    emr_id: LedgerId
    revision: int


class PatientKeyOut(Written):
    """Until ``counts_from`` the key before counts."""

    emr_id: LedgerId
    enrolment_id: EnrolmentId
    counts_from: datetime


class MeOut(Body):
    """``owner_msp`` and ``patient_id`` are what a patient shows to another hospital that is to request access."""

    enrolment_id: EnrolmentId
    role: str
    owner_msp: MspId
    patient_id: LedgerId | None
    emr_id: LedgerId | None
    keeps_key: bool = Field(description="Whether the caller signs every step, or the hospital for them")
    certificate: str = Field(description="The caller's Fabric certificate, PEM")


class Revoked(Body):
    enrolment_id: EnrolmentId
    revoked_at: datetime
