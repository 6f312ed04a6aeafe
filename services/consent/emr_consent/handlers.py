"""What the consent service does, one function a use case. The chaincode decides; nothing here grants anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emr_common.calls import Call
from emr_common.idempotency import Answer, Attempt
from emr_common.ledger import Committed, Journal, Ledger
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.answers import SharingList, SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.values import EndReason

from emr_consent import calls
from emr_consent.schemas import AccessRequestIn, OwnerApprovalIn, PatientApprovalIn

PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4)
RACES = frozenset({Code.CONFLICT, Code.TRANSACTION_INVALID})
"""The other side came first. Of two that begin one sharing in the same block, Fabric calls the second's endorsements
insufficient: the first has just given the sharing's end its own policy."""


PAGE_SIZE = 100


async def request_access(ledger: Ledger, caller: Caller, body: AccessRequestIn, attempt: Attempt) -> Answer:
    """Asks another hospital for a patient's EMR. Raises Problem ACCESS_NOT_GRANTED if it has no such patient."""
    committed = await _submit(ledger, caller, calls.access_request(body), journal=_SharingJournal(attempt))
    return Answer(201, _ids(committed))


async def approve_as_owner(
    ledger: Ledger, caller: Caller, emr_id: str, recipient_msp: str, body: OwnerApprovalIn
) -> dict[str, Any]:
    """The owner's side of the agreement: this version, sealed for this key of the recipient."""
    return _ids(await _submit(ledger, caller, await calls.owner_approval(ledger, emr_id, recipient_msp, body)))


async def end_as_owner(
    ledger: Ledger, caller: Caller, emr_id: str, recipient_msp: str, why: EndReason
) -> dict[str, Any]:
    """Declines or withdraws. Needs no other hospital's endorsement."""
    return _ids(await _submit(ledger, caller, calls.owner_ending(emr_id, recipient_msp, why)))


async def approve_as_patient(
    ledger: Ledger, caller: Caller, recipient_msp: str, body: PatientApprovalIn
) -> dict[str, Any]:
    """The patient's side of the agreement."""
    return _ids(await _submit(ledger, caller, calls.patient_approval(recipient_msp, body)))


async def end_as_patient(ledger: Ledger, caller: Caller, recipient_msp: str) -> dict[str, Any]:
    """Ends the sharing. Needs no other hospital's endorsement."""
    return _ids(await _submit(ledger, caller, calls.patient_ending(recipient_msp)))


async def own_sharings(ledger: Ledger, caller: Caller) -> list[dict[str, Any]]:
    """All sharings of the patient's own EMR, from the ledger."""
    found: list[SharingView] = []
    bookmark = ""
    while True:
        page = SharingList.from_json(await ledger.evaluate(caller, Function.GET_OWN_SHARINGS, PAGE_SIZE, bookmark))
        found += page.sharings
        bookmark = page.bookmark
        if not bookmark:
            return sharing_documents(found)


def sharing_documents(views: Sequence[SharingView]) -> list[dict[str, Any]]:
    return [json.loads(view.to_json()) for view in views]


async def _submit(ledger: Ledger, caller: Caller, call: Call, *, journal: Journal | None = None) -> Committed:
    """Makes a new proposal after a lost race: whether it still holds, the contract judges anew."""
    for pause_seconds in PAUSES_SECONDS:
        try:
            return await ledger.perform(caller, call, journal)
        except Problem as problem:
            if problem.code not in RACES:
                raise
        await asyncio.sleep(pause_seconds)
    return await ledger.perform(caller, call, journal)


def _ids(committed: Committed) -> dict[str, Any]:
    return {**calls.sharing_ids(committed.result), **committed.ids()}


@dataclass(frozen=True)
class _SharingJournal:
    """Keeps which sharing a request is about with its transaction: after a crash, a repetition answers the same."""

    attempt: Attempt

    async def submitting(self, transaction_id: str, result: bytes) -> None:
        self.attempt.plan(calls.sharing_ids(result))
        await self.attempt.submitting(transaction_id, result)
