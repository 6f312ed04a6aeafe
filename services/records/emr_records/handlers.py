"""What the records service does, one function a use case. Every read is in the access log before it is answered."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from emr_common.access_log import Entry
from emr_common.contents import OpenedEmr
from emr_common.idempotency import Answer, Attempt
from emr_common.problems import Problem
from emr_common.queued_notes import QueuedNote
from emr_common.wallet import Caller
from emr_model.clinical.canonical import JsonObject
from emr_model.clinical.errors import IdentifierMissing
from emr_model.clinical.identifiers import patient_identifier
from emr_model.clinical.notes import BundleReport, NoteContent
from emr_model.ledger.answers import DisclosureView, EmrFound, EmrView, VisitCount
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from fastapi import Response
from hlf.identity import Signer

from emr_records import answers
from emr_records.bodies import PostedNote, refused
from emr_records.bootstrap import Services
from emr_records.disclosures import OpenedSnapshot
from emr_records.history import shared_read
from emr_records.imports import remarks, seal_bundle
from emr_records.notes import require_note, require_same_patient, typed_content
from emr_records.queue import seal_queued
from emr_records.readable.document import Access, document
from emr_records.schemas import AmendmentIn, SearchIn
from emr_records.store import ImportJob, ImportResult

AS_PDF_FILE = {"Content-Disposition": 'attachment; filename="emr.pdf"'}


async def read_emr(services: Services, caller: Caller, emr_id: str) -> Response:
    header = await services.content.header(caller, emr_id, _own_read(services, caller, "read-emr"))
    return answers.json_response(answers.emr(header), answers.emr_version_tag(header.view))


async def find_emr(services: Services, caller: Caller, patient_id: str) -> Response:
    return await emr_found(services, caller, await services.content.find(caller, patient_id))


async def emr_found(services: Services, caller: Caller, found: EmrFound) -> Response:
    await log_own(services, caller, found.emr_id, "find-emr")
    return answers.json_response({"emrs": [answers.emr_found(found)]})


async def search(services: Services, caller: Caller, body: SearchIn) -> Response:
    await services.positions.wait_for(body.min_block)
    hits = await services.searches.search(body, _identifier_hmac(services, body))
    emr_ids = [row["emr_id"] for row in hits.rows]
    await services.access_log.record_all(
        caller, emr_ids=emr_ids, owner_msp=services.ledger.msp_id, action="search-emrs"
    )
    return answers.json_response(answers.hits(hits))


def _identifier_hmac(services: Services, body: SearchIn) -> bytes | None:
    """As admission makes it. Raises Problem VALIDATION_FAILED for a blank identifier, or where no key is set."""
    if body.identifier is None:
        return None
    if services.identifier_key is None:
        raise Problem(Code.VALIDATION_FAILED, "this instance has no key to look for identifiers with")
    try:
        return patient_identifier(body.identifier.system, body.identifier.value).hmac(services.identifier_key)
    except IdentifierMissing as error:
        raise Problem(Code.VALIDATION_FAILED, str(error)) from None


async def read_notes(services: Services, caller: Caller, emr_id: str, start: int, limit: int) -> Response:
    read = _own_read(services, caller, "read-notes")
    view, opened = await services.content.notes(caller, emr_id, start, limit, read)
    return answers.json_response(answers.notes(view, opened), answers.emr_version_tag(view))


async def read_note(services: Services, caller: Caller, emr_id: str, version: int) -> Response:
    read = _own_read(services, caller, "read-note", version)
    return answers.json_response(answers.note(await services.content.note(caller, emr_id, version, read)))


def _own_read(services: Services, caller: Caller, action: str, note_version: int | None = None) -> Entry:
    return Entry(caller, services.ledger.msp_id, action, note_version)


async def add_note(
    services: Services,
    caller: Caller,
    emr_id: str,
    posted: PostedNote,
    patient: JsonObject | None,
    expected_version: int | None,
    idempotency_key: str,
    attempt: Attempt,
) -> Answer:
    """201 for a new note, 200 for one that the EMR had already."""
    note_id, note = await identified_note(services, caller, caller, emr_id, posted, patient, idempotency_key)
    added = await services.writer.add(caller, emr_id, note_id, note, expected_version=expected_version, attempt=attempt)
    answer = {"emrId": emr_id, "noteId": added.note_id, "version": added.version}
    return Answer(200, answer) if added.committed is None else Answer(201, {**answer, **added.committed.ids()})


async def queue_note(
    services: Services,
    caller: Caller,
    emr_id: str,
    posted: PostedNote,
    patient: JsonObject | None,
    expected_version: int | None,
    idempotency_key: str,
    attempt: Attempt,
) -> Answer:
    """Keeps the note sealed and leaves it to the worker, which adds it as soon as every hospital is there."""
    if caller.held_signer is None:
        raise Problem(Code.SIGNATURE_NEEDED, "whoever keeps the key cannot leave signing to this service")
    note_id, note = await identified_note(services, caller, caller, emr_id, posted, patient, idempotency_key)
    ticket = attempt.earlier_ids.get("ticket") or secrets.token_hex(32)
    ids = {"ticket": ticket, "emrId": emr_id, "noteId": note_id}
    await attempt.remember(ids)
    key = await services.content.key(emr_id)
    sealed = seal_queued(key, ticket, emr_id, note.content)
    await services.queued_notes.add(
        QueuedNote(ticket, emr_id, caller.enrolment_id, note_id, note.kind.value, expected_version, sealed)
    )
    services.queue_worker.wake_up()
    return Answer(200, ids)  # kept as settled: a kept 202 would be a transaction whose outcome is unknown


def queued_location(response: Response) -> Response:
    """202 and where to ask, for a note that waits or waited. What the first request under a key has made decides, and
    not what a repetition prefers.
    """
    ticket = orjson.loads(response.body).get("ticket")
    if ticket is not None:
        response.status_code = 202
        response.headers["Location"] = f"/v1/transactions/{ticket}"
        response.headers["Preference-Applied"] = "respond-async"
    return response


async def identified_note(
    services: Services,
    reader: Caller | Signer,
    author: Caller,
    emr_id: str,
    posted: PostedNote,
    patient: JsonObject | None,
    idempotency_key: str,
) -> tuple[str, NoteContent]:
    """The note under its id. ``reader`` is who asks the ledger what has to be known for it."""
    if patient is not None:
        require_same_patient(patient, await services.content.header(reader, emr_id), services.identifier_systems)
    patient_id = (await services.known_emrs.get(reader, emr_id)).patient_id
    ids = services.writer.note_ids
    if isinstance(posted, NoteContent):
        return ids.of(patient_id, posted), posted
    note_id = ids.typed(patient_id, author, idempotency_key)
    note = typed_content(note_id, posted)
    if isinstance(posted, AmendmentIn):
        await require_note(services.content, reader, emr_id, posted.amends)
    return note_id, note


async def accept_import(
    services: Services, caller: Caller, emr_id: str, report: BundleReport, body: bytes, attempt: Attempt
) -> Answer:
    """Keeps the bundle sealed and leaves it to the worker. Raises Problem BUNDLE_INVALID when no note can be made."""
    if not report.notes:
        raise refused(report) if report.refused else Problem(Code.BUNDLE_INVALID, "the bundle makes no note")
    if caller.held_signer is None:
        raise Problem(Code.SIGNATURE_NEEDED, "whoever keeps the key cannot leave signing to this service")
    header = await services.content.header(caller, emr_id)
    if report.patient is not None:
        require_same_patient(report.patient.resource, header, services.identifier_systems)
    import_id = attempt.earlier_ids.get("importId") or secrets.token_hex(16)
    ids = {"importId": import_id, "emrId": emr_id, "notes": len(report.notes), "refused": len(report.refused)}
    await attempt.remember(ids)
    key = await services.content.key(emr_id)
    sealed = seal_bundle(key, import_id, emr_id, body)
    job = ImportJob(import_id, emr_id, caller.enrolment_id, "queued", sealed)
    await services.imports.add(job, remarks(report))
    services.import_worker.wake_up()
    return Answer(200, ids)  # kept as settled: a kept 202 would be a transaction whose outcome is unknown


def import_location(response: Response) -> Response:
    """202 and where to ask, for an import that was accepted, now or before."""
    response.status_code = 202
    response.headers["Location"] = f"/v1/imports/{orjson.loads(response.body)['importId']}"
    return response


async def read_import(services: Services, caller: Caller, import_id: str) -> dict[str, Any]:
    """Raises Problem IMPORT_NOT_FOUND, for another physician's import too."""
    job = await services.imports.find(import_id)
    if job is None or job.caller != caller.enrolment_id:
        raise Problem(Code.IMPORT_NOT_FOUND)
    results = await services.imports.results(import_id)
    return {
        "import_id": job.import_id,
        "emr_id": job.emr_id,
        "state": job.state,
        "notes": [_note_result(result) for result in results if result.resource is None],
        "remarks": [_remark(result) for result in results if result.resource is not None],
    }


async def read_shared_emr(services: Services, caller: Caller, receipt: str) -> Response:
    return await shared_emr(services, caller, await services.disclosures.read(caller, receipt))


async def shared_emr(services: Services, caller: Caller, opened: OpenedSnapshot) -> Response:
    shared = opened.shared
    await services.access_log.record(
        caller,
        emr_id=shared.emr_id,
        owner_msp=shared.owner_msp,
        action="read-shared-emr",
        purpose=shared.purpose.value,
        transaction_id=shared.receipt.partition(".")[2],
    )
    return answers.json_response(answers.shared_emr(shared, opened.snapshot))


async def prove_disclosure(services: Services, caller: Caller, receipt: str) -> Response:
    proof = await services.disclosures.proof(caller, receipt)
    disposition = f'attachment; filename="receipt-{receipt.partition(".")[2]}.json"'
    return Response(proof.to_json(), media_type="application/json", headers={"Content-Disposition": disposition})


async def download_own_emr(services: Services, caller: Caller) -> Response:
    opened = await services.content.own_emr(caller)
    await log_own(services, caller, opened.emr_id, "download-emr")
    return answers.whole_emr(opened)


async def read_own_emr_as_pdf(services: Services, caller: Caller) -> Response:
    opened = await services.content.own_emr(caller)
    await log_own(services, caller, opened.emr_id, "download-emr")
    return await _pdf(services, opened, await own_accesses(services, caller))


async def download_signed(services: Services, caller: Caller, first: EmrView, form: str) -> Response:
    """The same two for a patient who keeps the key, and has signed for the first page."""
    opened = await services.content.whole(first)
    await log_own(services, caller, opened.emr_id, "download-emr")
    if form == "bundle":
        return answers.whole_emr(opened)
    theirs = await services.history.disclosures(opened.emr_id)
    return await _pdf(services, opened, await _accesses(services, opened.emr_id, theirs.values()))


async def _pdf(services: Services, opened: OpenedEmr, accesses: list[Access]) -> Response:
    places = await services.history.places(opened.emr_id)
    data = document(opened, services.ledger.msp_id, services.ledger.channel, places, accesses)
    return Response(await services.typesetter.pdf(data), media_type="application/pdf", headers=AS_PDF_FILE)


async def own_accesses(services: Services, caller: Caller) -> list[Access]:
    """Reads at this hospital from its access log, reads by others from their receipts on the ledger."""
    if caller.emr_id is None:
        raise Problem(Code.EMR_NOT_FOUND)
    theirs = [_shared_read(view) for view in await services.disclosures.own(caller)]
    return await _accesses(services, caller.emr_id, theirs)


async def signed_accesses(services: Services, caller: Caller, signed: Sequence[DisclosureView]) -> list[Access]:
    """The same for a patient who keeps the key: the ledger's first page, as signed for, and what the read model has."""
    if caller.emr_id is None:
        raise Problem(Code.EMR_NOT_FOUND)
    theirs = await services.history.disclosures(caller.emr_id)
    theirs |= {view.receipt.partition(".")[2]: _shared_read(view) for view in signed}
    return await _accesses(services, caller.emr_id, theirs.values())


def _shared_read(view: DisclosureView) -> Access:
    one = view.disclosure
    return shared_read(one.at, one.recipient_msp, one.reader, one.purpose.value)


async def _accesses(services: Services, emr_id: str, theirs: Iterable[Access]) -> list[Access]:
    own = await services.history.accesses(emr_id)
    return sorted([*own, *theirs], key=lambda access: access.at)


async def read_own_disclosures(services: Services, caller: Caller) -> list[dict[str, Any]]:
    views = await services.disclosures.own(caller)
    return [answers.own_disclosure(view) for view in views]


async def count_visits(services: Services, caller: Caller, provider: str) -> dict[str, Any]:
    """Raises Problem PROVIDER_NOT_OWN for another hospital: there the patient has another id."""
    answer = await services.ledger.evaluate(caller, Function.GET_MEDICAL_VISIT_COUNT, provider)
    return {"provider": provider, "visits": VisitCount.from_json(answer).visits}


async def log_own(services: Services, caller: Caller, emr_id: str, action: str) -> None:
    await services.access_log.record(caller, emr_id=emr_id, owner_msp=services.ledger.msp_id, action=action)


def _note_result(result: ImportResult) -> dict[str, Any]:
    return {name: value for name, value in vars(result).items() if name != "resource"}


def _remark(result: ImportResult) -> dict[str, Any]:
    return {"resource": result.resource, "code": result.code}
