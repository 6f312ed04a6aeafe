"""Routes of the indexer's API, for administrators."""

from __future__ import annotations

from typing import Annotated

from emr_common.auth import require
from emr_common.boundary import PREFIX
from emr_common.idempotency import Answer, Attempt, IdempotencyKey
from emr_common.routing import JsonRoute
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from emr_indexer import handlers
from emr_indexer.bootstrap import Services
from emr_indexer.jobs.store import JobKind
from emr_indexer.schemas import DeadLettersOut, JobAcceptedOut, JobOut, PositionOut, VerificationIn

Admin = Annotated[Caller, Depends(require(Role.ADMIN))]

router = APIRouter(prefix=PREFIX, route_class=JsonRoute, tags=["indexer"], dependencies=[Depends(require(Role.ADMIN))])


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


@router.get("/position")
async def position(services: ServicesDep, min_block: Annotated[int | None, Query(ge=0)] = None) -> PositionOut:
    """How far the read model is, per partition, and how many blocks it lacks."""
    await services.positions.wait_for(min_block)
    return await handlers.position(services.store, services.ledger.tracker.height)


@router.get("/dead-letters")
async def dead_letters(
    services: ServicesDep,
    resolved: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=400)] = None,
    min_block: Annotated[int | None, Query(ge=0)] = None,
) -> DeadLettersOut:
    """What stands on the ledger and is not believed, or stopped a partition: ids and codes, the newest first."""
    await services.positions.wait_for(min_block)
    return await handlers.dead_letters(services.store, resolved=resolved, limit=limit, after=after)


@router.post("/dead-letters/{event_id:path}/replay", status_code=202, response_model=JobAcceptedOut)
async def replay(
    request: Request,
    services: ServicesDep,
    caller: Admin,
    key: IdempotencyKey,
    event_id: Annotated[str, Path(max_length=200, pattern="^[!-~]+$")],
) -> Response:
    """Tries a dead letter again, and in order what waits behind it. A partition that it stopped goes on."""

    async def once(attempt: Attempt) -> Answer:
        return await handlers.replay(services.store, services.jobs, caller, event_id, attempt)

    return handlers.job_location(await services.idempotency.run_once(request, caller, key, once))


@router.post("/rebuilds", status_code=202, response_model=JobAcceptedOut)
async def rebuild(request: Request, services: ServicesDep, caller: Admin, key: IdempotencyKey) -> Response:
    """Makes schema `care` anew from the peer's block 0, while the old one serves."""

    async def once(attempt: Attempt) -> Answer:
        return await handlers.accept(services.jobs, caller, JobKind.REBUILD, {}, attempt)

    return handlers.job_location(await services.idempotency.run_once(request, caller, key, once))


@router.post("/verifications", status_code=202, response_model=JobAcceptedOut)
async def verify(
    request: Request, services: ServicesDep, caller: Admin, key: IdempotencyKey, body: VerificationIn
) -> Response:
    """Compares every row with what the ledger says, or, with `erased`, proves what erasures have left."""
    argument = {"erased": body.erased, "emrId": body.emr_id}

    async def once(attempt: Attempt) -> Answer:
        return await handlers.accept(services.jobs, caller, JobKind.VERIFICATION, argument, attempt)

    return handlers.job_location(await services.idempotency.run_once(request, caller, key, once))


@router.get("/jobs/{job_id}")
async def job(services: ServicesDep, job_id: Annotated[str, Path(max_length=64, pattern="^[!-~]+$")]) -> JobOut:
    """How far a job is, and what came of it."""
    return await handlers.job(services.jobs, job_id)
