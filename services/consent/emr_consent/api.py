"""Routes of the consent service."""

from __future__ import annotations

from typing import Annotated, Any

from emr_common.auth import require
from emr_common.boundary import PREFIX
from emr_common.idempotency import Answer, Attempt, IdempotencyKey
from emr_common.routing import JsonRoute
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from emr_model.ledger.sharing import SharingState
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from emr_consent import events, handlers
from emr_consent.answers import content_response, sharings
from emr_consent.bootstrap import Services
from emr_consent.schemas import (
    AccessRequestIn,
    Direction,
    LedgerId,
    MspId,
    OwnerApprovalIn,
    OwnerPreviewOut,
    OwnerReason,
    OwnSharingsOut,
    PatientApprovalIn,
    PatientPreviewOut,
    SharingsOut,
)

router = APIRouter(prefix=PREFIX, route_class=JsonRoute, tags=["consent"])

Staff = Annotated[Caller, Depends(require(Role.PHYSICIAN, Role.HEALTHCENTER))]
Healthcenter = Annotated[Caller, Depends(require(Role.HEALTHCENTER))]
Patient = Annotated[Caller, Depends(require(Role.PATIENT))]
Listener = Annotated[Caller, Depends(require(Role.PHYSICIAN, Role.HEALTHCENTER, Role.PATIENT))]
LastEventId = Annotated[int | None, Header(ge=-1, lt=2**63, description="The block from which to go on")]


MeantVersion = Annotated[int | None, Query(ge=0, lt=10**10, description="The version that would be approved")]


async def _services(request: Request) -> Services:
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
    return sharings(page)


@router.get("/emrs/{emr}/sharings/{msp}/preview", response_model=OwnerPreviewOut)
async def preview_as_owner(
    services: ServicesDep, caller: Healthcenter, emr: LedgerId, msp: MspId, version: MeantVersion = None
) -> Response:
    """What an approval of the hospital would share: versions, dates and kinds of notes, no content."""
    return content_response(await services.previews.for_owner(caller, emr, msp, version))


@router.get("/events", response_class=StreamingResponse, responses={200: {"content": {events.MEDIA_TYPE: {}}}})
async def follow_events(
    request: Request, services: ServicesDep, caller: Listener, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Server-sent events: sharings and disclosures as they change. Patients hear of their own EMR, staff of all."""
    authorization = request.headers.get("authorization")
    stream = await services.feed.stream(lambda: services.authenticator.caller(authorization), last_event_id)
    return StreamingResponse(stream, media_type=events.MEDIA_TYPE)


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


@router.get("/me/sharings/{msp}/preview", response_model=PatientPreviewOut)
async def preview_as_patient(
    services: ServicesDep, caller: Patient, msp: MspId, version: MeantVersion = None
) -> Response:
    """What an approval of the caller would share, all of it, and what of it is new since the last approval."""
    return content_response(await services.previews.for_patient(caller, msp, version))


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
