"""What each operation does, one function a use case; patients' own are in ``admission`` and ``erasure``."""

from __future__ import annotations

import base64
from typing import Any

from cryptography import x509
from emr_common.calls import Call
from emr_common.idempotency import Answer, Attempt
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_common.sealing import SealingFailed, SealingPublicKey
from emr_common.wallet import Caller
from emr_model.ledger.answers import OrganizationRegistered, OrganizationView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.values import OrganizationProfile, SealingKey
from hlf import crypto

from emr_registration.certificate_request import CertificateRequest, checked_request
from emr_registration.enrolment import Enrolment, Person
from emr_registration.renewal import Renewal
from emr_registration.schemas import (
    CertificateOut,
    MeOut,
    OrganizationIn,
    OrganizationOut,
    OrganizationsOut,
    RenewalIn,
    RenewalToSignOut,
    SealingKeyBody,
    SignedRenewalIn,
    StaffIn,
)


async def put_organization(ledger: Ledger, caller: Caller, msp_id: str, body: OrganizationIn) -> Answer:
    """201 for the hospital's first profile, 200 for a later one. Raises Problem ORGANIZATION_NOT_OWN,
    VALIDATION_FAILED.
    """
    if msp_id != ledger.msp_id:
        raise Problem(Code.ORGANIZATION_NOT_OWN)
    committed = await ledger.perform(caller, own_organization(ledger, body))
    is_new = committed.answer(OrganizationRegistered).created
    return Answer(201 if is_new else 200, {"mspId": msp_id, **committed.ids()})


def own_organization(ledger: Ledger, body: OrganizationIn) -> Call:
    """Raises Problem VALIDATION_FAILED."""
    for key in body.sealing_keys:
        _require_public(key)
    profile = OrganizationProfile(body.name, tuple(SealingKey(key.id, key.keyset) for key in body.sealing_keys))
    return Call(Function.REGISTER_ORGANIZATION, (profile.to_json(),), ids={"mspId": ledger.msp_id})


def _require_public(key: SealingKeyBody) -> None:
    """Whoever publishes a secret key by mistake is stopped here: the ledger forgets nothing."""
    try:
        SealingPublicKey.from_base64(key.keyset)
    except SealingFailed:
        raise Problem(Code.VALIDATION_FAILED, "a sealing key is not a public Tink hybrid keyset") from None


async def get_organization(ledger: Ledger, msp_id: str) -> OrganizationOut:
    answer = await ledger.evaluate(ledger.service, Function.GET_ORGANIZATION, msp_id)
    return _organization(OrganizationView.from_json(answer))


async def list_organizations(ledger: Ledger) -> OrganizationsOut:
    return OrganizationsOut(organizations=[_organization(view) for view in await ledger.organizations()])


def _organization(view: OrganizationView) -> OrganizationOut:
    keys = [SealingKeyBody(id=key.id, keyset=key.keyset) for key in view.organization.sealing_keys]
    return OrganizationOut(msp_id=view.msp_id, name=view.organization.name, sealing_keys=keys)


async def enrol_staff(enrolment: Enrolment, body: StaffIn, attempt: Attempt) -> Answer:
    """Raises Problem SUBJECT_ALREADY_ENROLLED, CERTIFICATE_REQUEST_INVALID, CA_UNAVAILABLE."""
    known = await enrolment.find(body.subject)
    if known is None:
        request = checked_request(body.certificate_request, Role(body.role))
        known = await enrolment.enrol(Person(body.subject, Role(body.role)), request)
    elif not (attempt.is_repeated and known.role.value == body.role):
        raise Problem(Code.SUBJECT_ALREADY_ENROLLED)
    return Answer(201, {"enrolmentId": known.enrolment_id})


async def revoke_staff(enrolment: Enrolment, caller: Caller, enrolment_id: str) -> dict[str, Any]:
    """Raises Problem STAFF_NOT_FOUND, for a patient's id too; ROLE_NOT_ALLOWED for the caller's own, so that nobody
    locks the hospital out; CA_UNAVAILABLE once the identity has ended here.
    """
    if enrolment_id == caller.enrolment_id:
        raise Problem(Code.ROLE_NOT_ALLOWED, "another administrator ends an administrator's identity")
    person = await enrolment.with_id(enrolment_id)
    if person is None or person.role is Role.PATIENT:
        raise Problem(Code.STAFF_NOT_FOUND)
    await enrolment.revoke(enrolment_id)
    return {"enrolmentId": enrolment_id}


def describe_caller(ledger: Ledger, caller: Caller) -> MeOut:
    return MeOut(
        enrolment_id=caller.enrolment_id,
        role=caller.role.value,
        owner_msp=ledger.msp_id,
        patient_id=caller.patient_id,
        emr_id=caller.emr_id,
        keeps_key=caller.held_signer is None,
        certificate=caller.certificate_pem.decode(),
    )


def renewal_to_sign(renewal: Renewal, caller: Caller, body: RenewalIn) -> RenewalToSignOut:
    signed = renewal.to_sign(caller, _request(caller, body))
    return RenewalToSignOut(bytes=base64.b64encode(signed).decode(), digest=crypto.sha256(signed).hex())


async def renew_certificate(renewal: Renewal, caller: Caller, body: SignedRenewalIn) -> CertificateOut:
    pem = await renewal.renew_signed(caller, _request(caller, body), body.signature)
    expires_at = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return CertificateOut(enrolment_id=caller.enrolment_id, certificate=pem.decode(), expires_at=expires_at)


def _request(caller: Caller, body: RenewalIn) -> CertificateRequest:
    request = checked_request(body.certificate_request, caller.role)
    assert request is not None
    return request
