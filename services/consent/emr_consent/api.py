"""Routes of the consent service."""

from __future__ import annotations

from typing import Annotated, Any

from emr_common.auth import require
from emr_common.idempotency import Answer, Attempt, IdempotencyKey
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from emr_model.ledger.sharing import SharingState
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from emr_consent import handlers
from emr_consent.bootstrap import Services
from emr_consent.schemas import (
    AccessRequestIn,
    Direction,
    LedgerId,
    MspId,
    OwnerApprovalIn,
    OwnerReason,
    OwnSharingsOut,
    PatientApprovalIn,
    SharingOut,
    SharingsOut,
)

router = APIRouter(tags=["consent"])

Staff = Annotated[Caller, Depends(require(Role.PHYSICIAN, Role.HEALTHCENTER))]
Healthcenter = Annotated[Caller, Depends(require(Role.HEALTHCENTER))]
Patient = Annotated[Caller, Depends(require(Role.PATIENT))]


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


@router.post("/access-requests", status_code=201)
async def request_access(
    request: Request, services: ServicesDep, caller: Staff, key: IdempotencyKey, body: AccessRequestIn
) -> JSONResponse:
    """Asks another hospital, and through it the patient, for a snapshot of an EMR."""

    async def once(attempt: Attempt) -> Answer:
        return await handlers.request_access(services.ledger, caller, body, attempt)

    return await services.idempotency.run_once(request, caller, key, once)


@router.get("/sharings")
async def list_sharings(
    services: ServicesDep,
    caller: Staff,
    direction: Direction | None = None,
    state: SharingState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=400)] = None,
    min_block: Annotated[int | None, Query(ge=0)] = None,
) -> SharingsOut:
    """Sharings in which this hospital is owner (`outgoing`) or recipient (`incoming`)."""
    await services.positions.wait_for(min_block)
    page = await services.sharings.page(direction=direction, state=state, limit=limit, after=after)
    found = [SharingOut.model_validate({name: row[name] for name in SharingOut.model_fields}) for row in page.rows]
    return SharingsOut(sharings=found, as_of_block=page.as_of_block, next=page.next)


@router.put("/emrs/{emr}/sharings/{msp}/owner-approval")
async def approve_as_owner(
    services: ServicesDep, caller: Healthcenter, emr: LedgerId, msp: MspId, body: OwnerApprovalIn
) -> dict[str, Any]:
    """Approves for the hospital that a version of one of its EMRs is shared."""
    return await handlers.approve_as_owner(services.ledger, caller, emr, msp, body)


@router.delete("/emrs/{emr}/sharings/{msp}")
async def end_as_owner(
    services: ServicesDep, caller: Healthcenter, emr: LedgerId, msp: MspId, why: OwnerReason
) -> dict[str, Any]:
    """Declines a request, or withdraws what was shared."""
    return await handlers.end_as_owner(services.ledger, caller, emr, msp, why)


@router.get("/me/sharings")
async def list_own_sharings(services: ServicesDep, caller: Patient) -> OwnSharingsOut:
    """The caller's sharings as the ledger has them now."""
    return OwnSharingsOut(sharings=await handlers.own_sharings(services.ledger, caller))


@router.put("/me/sharings/{msp}/approval")
async def approve_as_patient(
    services: ServicesDep, caller: Patient, msp: MspId, body: PatientApprovalIn
) -> dict[str, Any]:
    """Approves that a version of the caller's EMR is shared with a hospital."""
    return await handlers.approve_as_patient(services.ledger, caller, msp, body)


@router.delete("/me/sharings/{msp}")
async def end_as_patient(services: ServicesDep, caller: Patient, msp: MspId) -> dict[str, Any]:
    """Ends the sharing of the caller's EMR with a hospital."""
    return await handlers.end_as_patient(services.ledger, caller, msp)
