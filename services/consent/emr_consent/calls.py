"""The contract's functions of consent, as their bodies ask for them; whoever signs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emr_common.calls import Call
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_model.ledger.answers import OrganizationView, SharingNumber
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.values import EndReason

from emr_consent.schemas import AccessRequestIn, OwnerApprovalIn, PatientApprovalIn


def access_request(body: AccessRequestIn) -> Call:
    return Call(Function.REQUEST_EMR_ACCESS, (body.owner_msp, body.patient_id, body.purpose.value))


async def owner_approval(ledger: Ledger, emr_id: str, recipient_msp: str, body: OwnerApprovalIn) -> Call:
    key_id = body.recipient_key_id or await _newest_key(ledger, recipient_msp)
    return Call(Function.AUTHORIZE_EMR_READING, (emr_id, recipient_msp, body.version, key_id))


def owner_ending(emr_id: str, recipient_msp: str, why: EndReason) -> Call:
    return Call(Function.END_EMR_READING, (emr_id, recipient_msp, why.value))


def patient_approval(recipient_msp: str, body: PatientApprovalIn) -> Call:
    expiry = () if body.expires_at is None else (_wire_time(body.expires_at),)
    return Call(Function.APPROVE_EMR_SHARING, (recipient_msp, body.version, *expiry))


def patient_ending(recipient_msp: str) -> Call:
    return Call(Function.REMOVE_EMR_SHARING, (recipient_msp,))


def sharing_ids(result: bytes) -> dict[str, Any]:
    """Which sharing any of these was about."""
    sharing = SharingNumber.from_json(result)
    return {"emrId": sharing.emr_id, "number": sharing.number}


async def _newest_key(ledger: Ledger, msp_id: str) -> str:
    """A hospital adds newer keys behind older ones."""
    answer = await ledger.evaluate(ledger.service, Function.GET_ORGANIZATION, msp_id)
    keys = OrganizationView.from_json(answer).organization.sealing_keys
    if not keys:
        raise Problem(Code.RECIPIENT_KEY_UNKNOWN)
    return keys[-1].id


def _wire_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
