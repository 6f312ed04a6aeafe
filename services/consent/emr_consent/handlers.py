"""What the consent service does, one function a use case. The chaincode decides; nothing here grants anything."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from emr_common.idempotency import Answer, Attempt
from emr_common.ledger import Argument, Committed, Journal, Ledger
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.answers import OrganizationView, SharingList, SharingNumber, SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.values import EndReason

from emr_consent.schemas import AccessRequestIn, OwnerApprovalIn, PatientApprovalIn

PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4)
RACES = frozenset({Code.CONFLICT, Code.TRANSACTION_INVALID})
"""The other side came first. Of two that begin one sharing in the same block, Fabric calls the second's endorsements
insufficient: the first has just given the sharing's end its own policy."""


async def request_access(ledger: Ledger, caller: Caller, body: AccessRequestIn, attempt: Attempt) -> Answer:
    """Asks another hospital for a patient's EMR. Raises Problem ACCESS_NOT_GRANTED if it has no such patient."""
    committed = await _submit(
        ledger,
        caller,
        Function.REQUEST_EMR_ACCESS,
        body.owner_msp,
        body.patient_id,
        body.purpose.value,
        journal=_SharingJournal(attempt),
    )
    return Answer(201, _ids(committed))


async def approve_as_owner(
    ledger: Ledger, caller: Caller, emr_id: str, recipient_msp: str, body: OwnerApprovalIn
) -> dict[str, Any]:
    """The owner's side of the agreement: this version, sealed for this key of the recipient."""
    key_id = body.recipient_key_id or await _newest_key(ledger, caller, recipient_msp)
    committed = await _submit(
        ledger, caller, Function.AUTHORIZE_EMR_READING, emr_id, recipient_msp, body.version, key_id
    )
    return _ids(committed)


async def end_as_owner(
    ledger: Ledger, caller: Caller, emr_id: str, recipient_msp: str, why: EndReason
) -> dict[str, Any]:
    """Declines or withdraws. Needs no other hospital's endorsement."""
    return _ids(await _submit(ledger, caller, Function.END_EMR_READING, emr_id, recipient_msp, why.value))


async def approve_as_patient(
    ledger: Ledger, caller: Caller, recipient_msp: str, body: PatientApprovalIn
) -> dict[str, Any]:
    """The patient's side of the agreement."""
    expiry = [] if body.expires_at is None else [_wire_time(body.expires_at)]
    return _ids(await _submit(ledger, caller, Function.APPROVE_EMR_SHARING, recipient_msp, body.version, *expiry))


async def end_as_patient(ledger: Ledger, caller: Caller, recipient_msp: str) -> dict[str, Any]:
    """Ends the sharing. Needs no other hospital's endorsement."""
    return _ids(await _submit(ledger, caller, Function.REMOVE_EMR_SHARING, recipient_msp))


async def own_sharings(ledger: Ledger, caller: Caller) -> list[dict[str, Any]]:
    """All sharings of the patient's own EMR, from the ledger."""
    found: list[SharingView] = []
    bookmark = ""
    while True:
        page = SharingList.from_json(await ledger.evaluate(caller, Function.GET_OWN_SHARINGS, 100, bookmark))
        found += page.sharings
        bookmark = page.bookmark
        if not bookmark:
            return [json.loads(view.to_json()) for view in found]


async def _submit(
    ledger: Ledger, caller: Caller, function: Function, *arguments: Argument, journal: Journal | None = None
) -> Committed:
    """Makes a new proposal after a lost race: whether it still holds, the contract judges anew."""
    for pause_seconds in PAUSES_SECONDS:
        try:
            return await ledger.submit(caller, function, *arguments, journal=journal)
        except Problem as problem:
            if problem.code not in RACES:
                raise
        await asyncio.sleep(pause_seconds)
    return await ledger.submit(caller, function, *arguments, journal=journal)


async def _newest_key(ledger: Ledger, caller: Caller, msp_id: str) -> str:
    """A hospital adds newer keys behind older ones."""
    answer = await ledger.evaluate(caller, Function.GET_ORGANIZATION, msp_id)
    keys = OrganizationView.from_json(answer).organization.sealing_keys
    if not keys:
        raise Problem(Code.RECIPIENT_KEY_UNKNOWN)
    return keys[-1].id


def _wire_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _ids(committed: Committed) -> dict[str, Any]:
    return {**_sharing_ids(committed.result), **committed.ids()}


def _sharing_ids(result: bytes) -> dict[str, Any]:
    sharing = SharingNumber.from_json(result)
    return {"emrId": sharing.emr_id, "number": sharing.number}


@dataclass(frozen=True)
class _SharingJournal:
    """Keeps which sharing a request is about with its transaction: after a crash, a repetition answers the same."""

    attempt: Attempt

    async def submitting(self, transaction_id: str, result: bytes) -> None:
        self.attempt.plan(_sharing_ids(result))
        await self.attempt.submitting(transaction_id, result)
