"""What people who keep their own key prepare at the registration service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from emr_common.calls import Call
from emr_common.ledger import Committed
from emr_common.operations import Ids, Intention, Operations, Read, Write, only_ids
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.answers import PatientRegistered
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import Field, RootModel

from emr_registration import handlers
from emr_registration.admission import Newcomer
from emr_registration.bootstrap import Services
from emr_registration.certificate_request import checked_request
from emr_registration.schemas import Body, DemographicsIn, LedgerId, OrganizationIn, PatientIn, PatientKeyIn


class OwnOrganizationIn(OrganizationIn):
    function: Literal["RegisterOrganization"]


class CreateIn(PatientIn):
    function: Literal["CreateEmr"]


class UpdateIn(DemographicsIn):
    function: Literal["UpdateDemographics"]
    emr_id: LedgerId


class RebindIn(PatientKeyIn):
    function: Literal["RebindPatientKey"]
    emr_id: LedgerId


class RequestErasureIn(Body):
    function: Literal["RequestErasure"]


class CancelErasureIn(Body):
    function: Literal["CancelErasure"]


class EraseIn(Body):
    function: Literal["EraseEmr"]
    emr_id: LedgerId


class IsRegisteredIn(Body):
    function: Literal["CheckIsPatientRegistered"]
    patient_id: LedgerId


class PrepareIn(
    RootModel[
        Annotated[
            OwnOrganizationIn
            | CreateIn
            | UpdateIn
            | RebindIn
            | RequestErasureIn
            | CancelErasureIn
            | EraseIn
            | IsRegisteredIn,
            Field(discriminator="function"),
        ]
    ]
):
    pass


async def _register_organization(services: Services, wanted: Intention) -> Call:
    return handlers.own_organization(services.ledger, wanted.body)


async def _create(services: Services, wanted: Intention) -> Call:
    body = wanted.body
    request = checked_request(body.certificate_request, Role.PATIENT)
    return await services.admission.prepare(Newcomer(body.subject, body.patient, request), wanted.attempt)


async def _update(services: Services, wanted: Intention) -> Call:
    body = wanted.body
    return await services.demographics.call(body.emr_id, body.patient, body.expected_revision)


async def _updated(services: Services, _: Caller, ids: Ids, _committed: Committed) -> dict[str, Any]:
    return await services.demographics.settle(ids)


async def _rebind(services: Services, wanted: Intention) -> Call:
    request = checked_request(wanted.body.certificate_request, Role.PATIENT)
    return await services.rebinding.call(wanted.body.emr_id, request)


async def _rebound(services: Services, _: Caller, ids: Ids, committed: Committed) -> dict[str, Any]:
    return await services.rebinding.settle(ids, committed.result)


async def _request_erasure(_: Services, wanted: Intention) -> Call:
    return Call(Function.REQUEST_ERASURE, ids={"emrId": wanted.caller.emr_id})


async def _cancel_erasure(_: Services, wanted: Intention) -> Call:
    return Call(Function.CANCEL_ERASURE, ids={"emrId": wanted.caller.emr_id})


async def _erase(_: Services, wanted: Intention) -> Call:
    return Call(Function.ERASE_EMR, (wanted.body.emr_id,), ids={"emrId": wanted.body.emr_id})


async def _erased(services: Services, _: Caller, ids: Ids, _committed: Committed) -> Ids:
    await services.erasure.destroy(ids["emrId"])
    return ids


async def _is_registered(_: Services, wanted: Intention) -> Call:
    patient_id = wanted.body.patient_id
    return Call(Function.CHECK_IS_PATIENT_REGISTERED, (patient_id,), ids={"patientId": patient_id})


async def _registered(_: Services, _caller: Caller, ids: Ids, result: bytes) -> Response:
    registered = PatientRegistered.from_json(result)
    if not registered.registered:
        raise Problem(Code.PATIENT_NOT_REGISTERED)
    return JSONResponse({**ids, "emrId": registered.emr_id})


OPERATIONS = Operations(
    PrepareIn,
    {
        Function.REGISTER_ORGANIZATION: Write(_register_organization, only_ids),
        Function.CREATE_EMR: Write(_create, only_ids),
        Function.UPDATE_DEMOGRAPHICS: Write(_update, _updated),
        Function.REBIND_PATIENT_KEY: Write(_rebind, _rebound),
        Function.REQUEST_ERASURE: Write(_request_erasure, only_ids),
        Function.CANCEL_ERASURE: Write(_cancel_erasure, only_ids),
        Function.ERASE_EMR: Write(_erase, _erased),
        Function.CHECK_IS_PATIENT_REGISTERED: Read(_is_registered, _registered),
    },
)
