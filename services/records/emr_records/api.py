"""Routes of the records service."""

from __future__ import annotations

from typing import Annotated, Any

from emr_common.auth import require
from emr_common.bodies import clinical_json
from emr_common.boundary import PREFIX
from emr_common.idempotency import Answer, Attempt, IdempotencyKey
from emr_common.routing import JsonRoute
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from emr_records import handlers, schemas
from emr_records.bodies import bundle_report, expected_version, is_async, posted_note, wants_pdf
from emr_records.bootstrap import Services
from emr_records.schemas import LedgerId, MspId, ReceiptId, Version

router = APIRouter(prefix=PREFIX, route_class=JsonRoute, tags=["records"])

Physician = Annotated[Caller, Depends(require(Role.PHYSICIAN))]
Patient = Annotated[Caller, Depends(require(Role.PATIENT))]
Anybody = Annotated[Caller, Depends(require(Role.PHYSICIAN, Role.HEALTHCENTER, Role.ADMIN, Role.PATIENT))]
Accept = Annotated[str, Header(max_length=1000, description="application/pdf for a document to read")]
Prefer = Annotated[
    str | None, Header(alias="Prefer", description="respond-async: leave the note waiting for every hospital")
]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The EMR's version, from its ETag")]


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def _documented(body: dict[str, Any]) -> dict[str, Any]:
    """A body that is read by the strict parser and not by FastAPI."""
    content = {media_type: {"schema": body} for media_type in ("application/json", "application/fhir+json")}
    return {"requestBody": {"required": True, "content": content}}


VISIT = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}}
FHIR_BUNDLE = {
    "type": "object",
    "description": "A FHIR R4 Bundle",
    "required": ["resourceType", "type", "entry"],
    "properties": {
        "resourceType": {"const": "Bundle"},
        "type": {"type": "string"},
        "entry": {"type": "array", "items": {"type": "object"}},
    },
    "examples": [
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "urn:uuid:6e4e5a3c-0b7a-4e9c-9a51-5d1d2f0c7b11", "resource": VISIT}],
        }
    ],
}
NOTE_BODY = {
    "oneOf": [FHIR_BUNDLE, schemas.TextNoteIn.model_json_schema(), schemas.AmendmentIn.model_json_schema()],
    "examples": [{"text": "Seen today. Blood pressure 120/80.", "title": "Visit"}],
}


@router.get("/emrs", response_model=schemas.EmrsFoundOut)
async def find_emr(
    services: ServicesDep, caller: Physician, patient_id: Annotated[LedgerId, Query(alias="patientId")]
) -> Response:
    """The EMR of a patient of this hospital."""
    return await handlers.find_emr(services, caller, patient_id)


@router.post("/emrs/search", response_model=schemas.SearchOut)
async def search(services: ServicesDep, caller: Physician, body: schemas.SearchIn) -> Response:
    """This hospital's EMRs by demographics and codes, as of a block. Criteria travel in the body only."""
    return await handlers.search(services, caller, body)


@router.get("/emrs/{emr}", response_model=schemas.EmrOut)
async def read_emr(services: ServicesDep, caller: Physician, emr: LedgerId) -> Response:
    """An EMR of this hospital: demographics, and how many notes there are. Its ETag is the version."""
    return await handlers.read_emr(services, caller, emr)


@router.get("/emrs/{emr}/notes", response_model=schemas.NotesOut)
async def read_notes(
    services: ServicesDep,
    caller: Physician,
    emr: LedgerId,
    start: Annotated[Version, Query(alias="from")] = 1,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Response:
    """Notes in the order in which they were added, from a version on."""
    return await handlers.read_notes(services, caller, emr, start, limit)


@router.get("/emrs/{emr}/notes/{version}", response_model=schemas.NoteOut)
async def read_note(services: ServicesDep, caller: Physician, emr: LedgerId, version: Version) -> Response:
    """One note."""
    return await handlers.read_note(services, caller, emr, version)


@router.post(
    "/emrs/{emr}/notes",
    status_code=201,
    response_model=schemas.NoteAddedOut,
    responses={
        200: {"model": schemas.NoteAddedOut, "description": "The EMR had the note already"},
        202: {"model": schemas.NoteQueuedOut, "description": "It waits, in order for its EMR, until it can be added"},
    },
    openapi_extra=_documented(NOTE_BODY),
)
async def add_note(
    request: Request,
    services: ServicesDep,
    caller: Physician,
    emr: LedgerId,
    key: IdempotencyKey,
    if_match: IfMatch = None,
    prefer: Prefer = None,
) -> Response:
    """Adds a note: a FHIR Bundle with one finished Encounter, a typed text, or an amendment."""
    version = expected_version(if_match)
    posted, patient = await posted_note(await clinical_json(request))
    add = handlers.queue_note if is_async(prefer) else handlers.add_note

    async def once(attempt: Attempt) -> Answer:
        return await add(services, caller, emr, posted, patient, version, key, attempt)

    return handlers.queued_location(await services.idempotency.run_once(request, caller, key, once))


@router.post(
    "/emrs/{emr}/imports",
    status_code=202,
    response_model=schemas.ImportAcceptedOut,
    openapi_extra=_documented(FHIR_BUNDLE),
)
async def accept_import(
    request: Request, services: ServicesDep, caller: Physician, emr: LedgerId, key: IdempotencyKey
) -> Response:
    """Takes a FHIR Bundle of any number of Encounters; each becomes a note in the background."""
    report = await bundle_report(await clinical_json(request))

    async def once(attempt: Attempt) -> Answer:
        return await handlers.accept_import(services, caller, emr, report, await request.body(), attempt)

    response = await services.idempotency.run_once(request, caller, key, once)
    return handlers.import_location(response)


@router.get("/imports/{import_id}")
async def read_import(services: ServicesDep, caller: Physician, import_id: LedgerId) -> schemas.ImportOut:
    """What became of an import of the caller's, note by note."""
    return schemas.ImportOut.model_validate(await handlers.read_import(services, caller, import_id))


@router.post("/disclosures", status_code=201, response_model=schemas.DisclosureOut)
async def disclose(
    request: Request, services: ServicesDep, caller: Physician, key: IdempotencyKey, body: schemas.DisclosureIn
) -> Response:
    """Asks to read what another hospital and its patient share: leaves a receipt on the ledger."""

    async def once(attempt: Attempt) -> Answer:
        return await services.disclosures.disclose(caller, body, attempt)

    return await services.idempotency.run_once(request, caller, key, once)


@router.get("/disclosures/{receipt}/emr", response_model=schemas.SharedEmrOut)
async def read_shared_emr(services: ServicesDep, caller: Physician, receipt: ReceiptId) -> Response:
    """The snapshot that a receipt of the caller's stands for, within 15 minutes."""
    return await handlers.read_shared_emr(services, caller, receipt)


@router.get("/disclosures/{receipt}/proof", response_model=None, responses={200: {"description": "A receipt's file"}})
async def prove_disclosure(services: ServicesDep, caller: Anybody, receipt: ReceiptId) -> Response:
    """What proves a read of a shared EMR without asking anybody: a file for ``emr verify receipt``."""
    return await handlers.prove_disclosure(services, caller, receipt)


@router.get(
    "/me/emr",
    response_model=None,
    responses={200: {"content": {"application/fhir+json": {}, "application/pdf": {}}}},
)
async def download_own_emr(services: ServicesDep, caller: Patient, accept: Accept = "*/*") -> Response:
    """The caller's whole EMR: one FHIR Bundle, the Patient and then each note as the Bundle it is; or, with ``Accept:
    application/pdf``, a document to read, with the proof of each note and everybody who has read it."""
    if wants_pdf(accept):
        return await handlers.read_own_emr_as_pdf(services, caller)
    return await handlers.download_own_emr(services, caller)


@router.get("/me/accesses")
async def read_own_accesses(services: ServicesDep, caller: Patient) -> schemas.AccessesOut:
    """Every read of the caller's EMR: at this hospital, and by others."""
    accesses = await handlers.own_accesses(services, caller)
    return schemas.AccessesOut.model_validate({"accesses": [vars(access) for access in accesses]})


@router.get("/me/disclosures")
async def read_own_disclosures(services: ServicesDep, caller: Patient) -> schemas.OwnDisclosuresOut:
    """Every read of the caller's EMR by another hospital."""
    return schemas.OwnDisclosuresOut.model_validate(
        {"disclosures": await handlers.read_own_disclosures(services, caller)}
    )


@router.get("/me/visit-count")
async def count_visits(services: ServicesDep, caller: Patient, provider: MspId) -> schemas.VisitCountOut:
    """How often the caller was at this hospital."""
    return schemas.VisitCountOut.model_validate(await handlers.count_visits(services, caller, provider))
