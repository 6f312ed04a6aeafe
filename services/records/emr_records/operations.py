"""What people who keep their own key prepare at the records service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from emr_common.calls import Call
from emr_common.ledger import Committed
from emr_common.operations import Ids, Intention, Operations, Read, Write, only_ids
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.answers import DisclosureList, EmrFound, EmrView, VisitCount
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from fastapi import Response
from pydantic import Field, RootModel

from emr_records import answers, disclosures, handlers
from emr_records.bodies import posted_note
from emr_records.bootstrap import Services
from emr_records.schemas import Body, DisclosureIn, Fhir, LedgerId, MspId, ReceiptId, Version

PageSize = Annotated[int, Field(ge=1, le=200)]
FIRST = 1


class NoteIn(Body):
    """``note``: a FHIR Bundle with one finished Encounter, a typed text, or an amendment."""

    function: Literal["AddEmrNote"]
    emr_id: LedgerId
    note: Fhir
    expected_version: Annotated[int, Field(ge=0, lt=10**10)] | None = Field(
        default=None, description="The EMR's version; without it the current one"
    )


class DiscloseIn(DisclosureIn):
    function: Literal["GetSharedEMR"]


class EmrPageIn(Body):
    function: Literal["ReadEmr"]
    emr_id: LedgerId
    from_version: Version = FIRST
    limit: PageSize = 100


class FindIn(Body):
    function: Literal["GetEmrByPatientId"]
    patient_id: LedgerId


class SharedIn(Body):
    function: Literal["ReadSharedEmr"]
    receipt: ReceiptId


class OwnEmrPageIn(Body):
    """A page; or all of it, as a FHIR ``bundle`` or a ``pdf``, for one signature."""

    function: Literal["GetOwnEmr"]
    from_version: Version = FIRST
    limit: PageSize = 100
    form: Literal["page", "bundle", "pdf"] = "page"


class OwnDisclosuresIn(Body):
    """A page; ``bookmark`` is that of the page before. Or every read of the caller's EMR: ``accesses``."""

    function: Literal["GetOwnDisclosures"]
    bookmark: str = Field(default="", max_length=1000)
    form: Literal["page", "accesses"] = "page"


class VisitsIn(Body):
    function: Literal["GetMedicalVisitCount"]
    provider: MspId


class PrepareIn(
    RootModel[
        Annotated[
            NoteIn | DiscloseIn | EmrPageIn | FindIn | SharedIn | OwnEmrPageIn | OwnDisclosuresIn | VisitsIn,
            Field(discriminator="function"),
        ]
    ]
):
    pass


async def _add_note(services: Services, wanted: Intention) -> Call:
    body, reader = wanted.body, services.ledger.service
    posted, patient = await posted_note(body.note)
    note_id, note = await handlers.identified_note(
        services, reader, wanted.caller, body.emr_id, posted, patient, wanted.key
    )
    version = body.expected_version
    if version is None:
        version = (await services.known_emrs.look_again(reader, body.emr_id)).version
    return await services.writer.call(body.emr_id, note_id, note, version)


async def _disclose(_: Services, wanted: Intention) -> Call:
    return disclosures.disclosure(wanted.body)


async def _receipt(_: Services, _caller: Caller, _ids: Ids, committed: Committed) -> dict[str, Any]:
    return disclosures.receipt_ids(committed.result)


async def _read_emr(_: Services, wanted: Intention) -> Call:
    body = wanted.body
    return Call(Function.READ_EMR, (body.emr_id, body.from_version, body.limit), ids={"action": "read-emr"})


async def _read_own_emr(_: Services, wanted: Intention) -> Call:
    body = wanted.body
    arguments = (body.from_version, body.limit) if body.form == "page" else (FIRST,)
    return Call(Function.GET_OWN_EMR, arguments, ids={"action": "download-emr", "form": body.form})


async def _own_emr(services: Services, caller: Caller, ids: Ids, result: bytes) -> Response:
    form = _own(ids, "form")
    if form == "page":
        return await _emr_page(services, caller, ids, result)
    return await handlers.download_signed(services, caller, EmrView.from_json(result), form)


def _own(ids: Ids, name: str) -> str:
    """Raises Problem TRANSACTION_NOT_FOUND for a read that was prepared at another service."""
    if name not in ids:
        raise Problem(Code.TRANSACTION_NOT_FOUND, "it was prepared at another service")
    return str(ids[name])


async def _emr_page(services: Services, caller: Caller, ids: Ids, result: bytes) -> Response:
    view = EmrView.from_json(result)
    header = None if view.demographics is None else await services.content.open_header(view)
    opened = await services.content.open_notes(view)
    await handlers.log_own(services, caller, view.emr_id, ids["action"])
    return answers.json_response(answers.emr_page(view, header, opened), answers.emr_version_tag(view))


async def _find(_: Services, wanted: Intention) -> Call:
    return Call(Function.GET_EMR_BY_PATIENT_ID, (wanted.body.patient_id,))


async def _found(services: Services, caller: Caller, _: Ids, result: bytes) -> Response:
    return await handlers.emr_found(services, caller, EmrFound.from_json(result))


async def _read_shared(_: Services, wanted: Intention) -> Call:
    return Call(Function.READ_SHARED_EMR, (wanted.body.receipt,))


async def _shared(services: Services, caller: Caller, _: Ids, result: bytes) -> Response:
    return await handlers.shared_emr(services, caller, await services.disclosures.open(result))


async def _read_own_disclosures(_: Services, wanted: Intention) -> Call:
    body = wanted.body
    bookmark = body.bookmark if body.form == "page" else ""
    return Call(Function.GET_OWN_DISCLOSURES, (disclosures.PAGE_SIZE, bookmark), ids={"form": body.form})


async def _own_disclosures(services: Services, caller: Caller, ids: Ids, result: bytes) -> Response:
    page = DisclosureList.from_json(result)
    if _own(ids, "form") == "accesses":
        accesses = await handlers.signed_accesses(services, caller, page.disclosures)
        return answers.json_response({"accesses": [vars(access) for access in accesses]})
    found = [answers.own_disclosure(view) for view in page.disclosures]
    return answers.json_response({"disclosures": found, "bookmark": page.bookmark})


async def _count_visits(_: Services, wanted: Intention) -> Call:
    return Call(Function.GET_MEDICAL_VISIT_COUNT, (wanted.body.provider,), ids={"provider": wanted.body.provider})


async def _visits(_: Services, _caller: Caller, ids: Ids, result: bytes) -> Response:
    return answers.json_response({**ids, "visits": VisitCount.from_json(result).visits})


OPERATIONS = Operations(
    PrepareIn,
    {
        Function.ADD_EMR_NOTE: Write(_add_note, only_ids),
        Function.GET_SHARED_EMR: Write(_disclose, _receipt),
        Function.READ_EMR: Read(_read_emr, _emr_page),
        Function.GET_OWN_EMR: Read(_read_own_emr, _own_emr),
        Function.GET_EMR_BY_PATIENT_ID: Read(_find, _found),
        Function.READ_SHARED_EMR: Read(_read_shared, _shared),
        Function.GET_OWN_DISCLOSURES: Read(_read_own_disclosures, _own_disclosures),
        Function.GET_MEDICAL_VISIT_COUNT: Read(_count_visits, _visits),
    },
)
