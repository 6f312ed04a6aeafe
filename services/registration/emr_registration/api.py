"""Routes of the registration service."""

from __future__ import annotations

from typing import Annotated, Any

from emr_common.auth import CallerDep, require
from emr_common.bodies import clinical_body, clinical_body_schema
from emr_common.boundary import PREFIX
from emr_common.idempotency import Answer, Attempt, IdempotencyKey
from emr_common.routing import JsonRoute
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from emr_registration import handlers
from emr_registration.admission import Newcomer
from emr_registration.bootstrap import Services
from emr_registration.certificate_request import checked_request
from emr_registration.schemas import (
    CertificateOut,
    DemographicsIn,
    DemographicsOut,
    EnrolmentId,
    LedgerId,
    LookupIn,
    LookupOut,
    MeOut,
    MspId,
    OrganizationIn,
    OrganizationOut,
    OrganizationsOut,
    PatientIn,
    PatientKeyIn,
    PatientKeyOut,
    PatientOut,
    RenewalIn,
    RenewalToSignOut,
    SignedRenewalIn,
    StaffIn,
    StaffOut,
)

router = APIRouter(prefix=PREFIX, route_class=JsonRoute, tags=["registration"])

RENEWAL_ERRORS = {
    "x-errors": ["KEY_HELD_HERE", "CERTIFICATE_REQUEST_INVALID", "SIGNATURE_INVALID", "CONFLICT", "CA_UNAVAILABLE"]
}
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Healthcenter = Annotated[Caller, Depends(require(Role.HEALTHCENTER))]
Patient = Annotated[Caller, Depends(require(Role.PATIENT))]


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


@router.put("/organizations/{msp}", responses={201: {"description": "The hospital's first profile"}})
async def put_organization(services: ServicesDep, caller: Admin, msp: MspId, body: OrganizationIn) -> JSONResponse:
    """Publishes the caller's own hospital: its name and the keys for which others seal snapshots."""
    return (await handlers.put_organization(services.ledger, caller, msp, body)).response()


@router.get("/organizations")
async def list_organizations(services: ServicesDep, caller: CallerDep) -> OrganizationsOut:
    """All hospitals of the channel."""
    return await handlers.list_organizations(services.ledger)


@router.get("/organizations/{msp}")
async def get_organization(services: ServicesDep, _: CallerDep, msp: MspId) -> OrganizationOut:
    """One hospital's profile."""
    return await handlers.get_organization(services.ledger, msp)


@router.post("/staff", status_code=201, response_model=StaffOut)
async def enrol_staff(
    request: Request, services: ServicesDep, caller: Admin, key: IdempotencyKey, body: StaffIn
) -> JSONResponse:
    """Enrols a member of staff at the hospital's CA. From now on the subject's tokens are accepted, in that role."""

    async def once(attempt: Attempt) -> Answer:
        return await handlers.enrol_staff(services.enrolment, body, attempt)

    return await services.idempotency.run_once(request, caller, key, once)


@router.delete("/staff/{enrolment_id}")
async def revoke_staff(services: ServicesDep, caller: Admin, enrolment_id: EnrolmentId) -> dict[str, Any]:
    """Ends an identity: its tokens are refused at once, its certificate is revoked at the CA."""
    return await handlers.revoke_staff(services.enrolment, caller, enrolment_id)


@router.post("/patients", status_code=201, response_model=PatientOut, openapi_extra=clinical_body_schema(PatientIn))
async def register_patient(
    request: Request, services: ServicesDep, caller: Healthcenter, key: IdempotencyKey
) -> JSONResponse:
    """Registers a patient: enrols them at the hospital's CA and creates their EMR, which the hospital then owns."""
    body = await clinical_body(request, PatientIn)

    async def once(attempt: Attempt) -> Answer:
        newcomer = Newcomer(body.subject, body.patient, checked_request(body.certificate_request, Role.PATIENT))
        return await services.admission.register(caller, newcomer, attempt)

    return await services.idempotency.run_once(request, caller, key, once)


@router.post("/patients/lookup")
async def look_up_patient(services: ServicesDep, caller: Healthcenter, body: LookupIn) -> LookupOut:
    """Ids of a patient of this hospital, by an identifier or by patientId."""
    identifier = None if body.identifier is None else (body.identifier.system, body.identifier.value)
    return LookupOut.model_validate(await services.admission.look_up(caller, body.patient_id, identifier))


@router.put(
    "/emrs/{emr}/demographics", response_model=DemographicsOut, openapi_extra=clinical_body_schema(DemographicsIn)
)
async def update_demographics(
    request: Request, services: ServicesDep, caller: Healthcenter, emr: LedgerId
) -> dict[str, Any]:
    """Replaces a patient's demographics. From now on the hospital recognizes the patient by their identifier."""
    body = await clinical_body(request, DemographicsIn)
    return await services.demographics.update(caller, emr, body.patient, body.expected_revision)


@router.put("/emrs/{emr}/patient-key", response_model=PatientKeyOut)
async def rebind_patient_key(
    services: ServicesDep, caller: Healthcenter, emr: LedgerId, body: PatientKeyIn
) -> dict[str, Any]:
    """Certifies another key for a patient and binds it, in public. It counts 24 hours later, until then the old one."""
    request = checked_request(body.certificate_request, Role.PATIENT)
    return await services.rebinding.rebind(caller, emr, request)


@router.post("/me/certificate/prepare", openapi_extra=RENEWAL_ERRORS)
async def prepare_renewal(services: ServicesDep, caller: CallerDep, body: RenewalIn) -> RenewalToSignOut:
    """What a caller who keeps the key signs to have the certificate renewed; while the present one is valid."""
    return handlers.renewal_to_sign(services.renewal, caller, body)


@router.put("/me/certificate", openapi_extra=RENEWAL_ERRORS)
async def renew_certificate(services: ServicesDep, caller: CallerDep, body: SignedRenewalIn) -> CertificateOut:
    """Renews the certificate of a caller who keeps the key. It counts from the next request on."""
    return await handlers.renew_certificate(services.renewal, caller, body)


@router.post("/me/erasure-request", status_code=201)
async def request_erasure(
    request: Request, services: ServicesDep, caller: Patient, key: IdempotencyKey
) -> JSONResponse:
    """Asks the hospital to erase the caller's EMR. Nothing of it is shared or shown to other hospitals from now on."""

    async def once(attempt: Attempt) -> Answer:
        return await services.erasure.request(caller, attempt)

    return await services.idempotency.run_once(request, caller, key, once)


@router.delete("/me/erasure-request")
async def cancel_erasure(services: ServicesDep, caller: Patient) -> dict[str, Any]:
    """Takes the request back, as long as the hospital has not acted on it."""
    return await services.erasure.cancel(caller)


@router.delete("/emrs/{emr}")
async def erase_emr(services: ServicesDep, caller: Healthcenter, emr: LedgerId) -> dict[str, Any]:
    """Erases an EMR whose patient asked for it: on the ledger, then its key and everything that names the patient."""
    return await services.erasure.erase(caller, emr)


@router.get("/me")
async def get_me(services: ServicesDep, caller: CallerDep) -> MeOut:
    """Who the caller is to this hospital."""
    return handlers.describe_caller(services.ledger, caller)
