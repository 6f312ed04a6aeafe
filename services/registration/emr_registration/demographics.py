"""A patient's demographics replaced: sealed anew, and the hospital recognizes the patient by what they say now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emr_common.calls import Call
from emr_common.emr_keys import EmrKeyMissing
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.clinical.canonical import JsonObject
from emr_model.ledger.answers import EmrView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function

from emr_registration.admission import PUBLIC_PART, Recognition, checked_demographics, seal_demographics
from emr_registration.store import Store

ATTEMPTS = 4
RACES = frozenset({Code.CONFLICT, Code.VERSION_CONFLICT})


@dataclass(frozen=True)
class Demographics:
    ledger: Ledger
    store: Store
    recognition: Recognition

    async def update(
        self, caller: Caller, emr_id: str, patient: JsonObject, expected_revision: int | None
    ) -> dict[str, Any]:
        """Raises Problem VALIDATION_FAILED, PATIENT_ALREADY_REGISTERED (another patient has the identifier),
        VERSION_CONFLICT with the revision that counts, or what the ledger says.
        """
        for left in reversed(range(ATTEMPTS)):
            call = await self.call(emr_id, patient, expected_revision)
            try:
                committed = await self.ledger.perform(caller, call)
            except Problem as problem:
                if not left or expected_revision is not None or problem.code not in RACES:
                    raise
            else:
                return {**await self.settle(call.ids), **committed.ids()}
        raise AssertionError("the last attempt raises")

    async def call(self, emr_id: str, patient: JsonObject, expected_revision: int | None) -> Call:
        content = checked_demographics(patient)
        identifier_hmac = self.recognition.of(patient)
        holder = await self.store.find(identifier_hmac)
        if holder is not None and holder.emr_id != emr_id:
            raise Problem(Code.PATIENT_ALREADY_REGISTERED)
        revision = await self._revision(emr_id) if expected_revision is None else expected_revision
        try:
            key = await self.store.existing_key(emr_id)
        except EmrKeyMissing as error:
            raise Problem(Code.EMR_NOT_FOUND) from error
        sealed = seal_demographics(self.ledger, key, content, emr_id, revision + 1)
        return Call(
            Function.UPDATE_DEMOGRAPHICS,
            (emr_id, revision, sealed.commitment, sealed.sha256),
            {"demographics": sealed.content},
            {"emrId": emr_id, "revision": revision + 1, "identifierHmac": identifier_hmac.hex()},
        )

    async def settle(self, ids: Mapping[str, Any]) -> dict[str, Any]:
        """After the commit. Repeatable."""
        await self.store.recognize(ids["emrId"], bytes.fromhex(ids["identifierHmac"]))
        return {"emrId": ids["emrId"], "revision": ids["revision"]}

    async def _revision(self, emr_id: str) -> int:
        answer = await self.ledger.evaluate(self.ledger.service, Function.READ_EMR, emr_id, *PUBLIC_PART)
        return EmrView.from_json(answer).emr.demographics_revision
