"""What people who keep their own key prepare at the consent service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emr_common.calls import Call
from emr_common.ledger import Committed
from emr_common.operations import Ids, Intention, Operations, Read, Write
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.answers import EmrView, OrganizationView, SharingList
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import Field, RootModel

from emr_consent import calls, handlers
from emr_consent.answers import content_response
from emr_consent.bootstrap import Services
from emr_consent.schemas import (
    AccessRequestIn,
    Body,
    LedgerId,
    MspId,
    OwnerApprovalIn,
    OwnerReason,
    PatientApprovalIn,
    Version,
)


class RequestIn(AccessRequestIn):
    function: Literal["RequestEmrAccess"]


class AuthorizeIn(OwnerApprovalIn):
    function: Literal["AuthorizeEmrReading"]
    emr_id: LedgerId
    recipient_msp: MspId


class EndIn(Body):
    function: Literal["EndEmrReading"]
    emr_id: LedgerId
    recipient_msp: MspId
    why: OwnerReason


class ApproveIn(PatientApprovalIn):
    function: Literal["ApproveEmrSharing"]
    recipient_msp: MspId


class RemoveIn(Body):
    function: Literal["RemoveEmrSharing"]
    recipient_msp: MspId


class OwnSharingsIn(Body):
    """A page of the caller's sharings; ``bookmark`` is that of the page before."""

    function: Literal["GetOwnSharings"]
    bookmark: str = Field(default="", max_length=1000)


class PatientPreviewIn(Body):
    """What an approval of the caller would share; without ``version`` that of the route's preview."""

    function: Literal["GetOwnEmr"]
    recipient_msp: MspId
    version: Version | None = None


class OwnerPreviewIn(Body):
    """The same for admission staff, without content. Signed is the question who the recipient is."""

    function: Literal["GetOrganization"]
    emr_id: LedgerId
    recipient_msp: MspId
    version: Version | None = None


class PrepareIn(
    RootModel[
        Annotated[
            RequestIn | AuthorizeIn | EndIn | ApproveIn | RemoveIn | OwnSharingsIn | PatientPreviewIn | OwnerPreviewIn,
            Field(discriminator="function"),
        ]
    ]
):
    pass


async def _request(_: Services, wanted: Intention) -> Call:
    return calls.access_request(wanted.body)


async def _authorize(services: Services, wanted: Intention) -> Call:
    body = wanted.body
    return await calls.owner_approval(services.ledger, body.emr_id, body.recipient_msp, body)


async def _end(_: Services, wanted: Intention) -> Call:
    return calls.owner_ending(wanted.body.emr_id, wanted.body.recipient_msp, wanted.body.why)


async def _approve(_: Services, wanted: Intention) -> Call:
    return calls.patient_approval(wanted.body.recipient_msp, wanted.body)


async def _remove(_: Services, wanted: Intention) -> Call:
    return calls.patient_ending(wanted.body.recipient_msp)


async def _sharing(_: Services, _caller: Caller, _ids: Ids, committed: Committed) -> dict[str, Any]:
    return calls.sharing_ids(committed.result)


async def _own_sharings(_: Services, wanted: Intention) -> Call:
    return Call(Function.GET_OWN_SHARINGS, (handlers.PAGE_SIZE, wanted.body.bookmark))


async def _sharings(_: Services, _caller: Caller, _ids: Ids, result: bytes) -> Response:
    page = SharingList.from_json(result)
    return JSONResponse({"sharings": handlers.sharing_documents(page.sharings), "bookmark": page.bookmark})


async def _preview_as_patient(services: Services, wanted: Intention) -> Call:
    body = wanted.body
    services.previews.require_other(body.recipient_msp)
    ids = {"preview": {"recipientMsp": body.recipient_msp, "version": body.version}}
    return Call(Function.GET_OWN_EMR, (1,), ids=ids)


async def _patient_preview(services: Services, caller: Caller, ids: Ids, result: bytes) -> Response:
    of = _previewed(ids)
    signed = EmrView.from_json(result)
    return content_response(await services.previews.for_patient(caller, of["recipientMsp"], of["version"], signed))


async def _preview_as_owner(services: Services, wanted: Intention) -> Call:
    body = wanted.body
    if wanted.caller.role is not Role.HEALTHCENTER:
        raise Problem(Code.ROLE_NOT_ALLOWED)
    services.previews.require_other(body.recipient_msp)
    ids = {"preview": {"emrId": body.emr_id, "recipientMsp": body.recipient_msp, "version": body.version}}
    return Call(Function.GET_ORGANIZATION, (body.recipient_msp,), ids=ids)


async def _owner_preview(services: Services, caller: Caller, ids: Ids, result: bytes) -> Response:
    of = _previewed(ids)
    signed = OrganizationView.from_json(result)
    preview = await services.previews.for_owner(caller, of["emrId"], of["recipientMsp"], of["version"], signed)
    return content_response(preview)


def _previewed(ids: Ids) -> Mapping[str, Any]:
    """Raises Problem TRANSACTION_NOT_FOUND for a read that was prepared at another service."""
    of: Mapping[str, Any] | None = ids.get("preview")
    if of is None:
        raise Problem(Code.TRANSACTION_NOT_FOUND, "it was prepared at another service")
    return of


OPERATIONS = Operations(
    PrepareIn,
    {
        Function.REQUEST_EMR_ACCESS: Write(_request, _sharing),
        Function.AUTHORIZE_EMR_READING: Write(_authorize, _sharing),
        Function.END_EMR_READING: Write(_end, _sharing),
        Function.APPROVE_EMR_SHARING: Write(_approve, _sharing),
        Function.REMOVE_EMR_SHARING: Write(_remove, _sharing),
        Function.GET_OWN_SHARINGS: Read(_own_sharings, _sharings),
        Function.GET_OWN_EMR: Read(_preview_as_patient, _patient_preview),
        Function.GET_ORGANIZATION: Read(_preview_as_owner, _owner_preview),
    },
)
