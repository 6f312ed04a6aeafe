"""The end of an EMR: first on the ledger, then its key, which makes every copy of its content unreadable.

Between the two stands a crash. So a repeated request destroys what is left, and so does this service by itself, a
minute after the projector has seen the erasure.
"""

from __future__ import annotations

from typing import Any

import structlog
from emr_common.idempotency import Answer, Attempt
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function

from emr_registration.enrolment import Enrolment
from emr_registration.store import Store

log = structlog.get_logger(__name__)


class Erasure:
    def __init__(self, ledger: Ledger, store: Store, enrolment: Enrolment) -> None:
        self._ledger = ledger
        self._store = store
        self._enrolment = enrolment

    async def request(self, patient: Caller, attempt: Attempt) -> Answer:
        committed = await self._ledger.submit(patient, Function.REQUEST_ERASURE, journal=attempt)
        return Answer(201, {"emrId": patient.emr_id, **committed.ids()})

    async def cancel(self, patient: Caller) -> dict[str, Any]:
        committed = await self._ledger.submit(patient, Function.CANCEL_ERASURE)
        return {"emrId": patient.emr_id, **committed.ids()}

    async def erase(self, caller: Caller, emr_id: str) -> dict[str, Any]:
        """Raises Problem ERASURE_NOT_REQUESTED; EMR_ERASED once nothing was left to do."""
        try:
            committed = await self._ledger.submit(caller, Function.ERASE_EMR, emr_id)
        except Problem as problem:
            if problem.code is not Code.EMR_ERASED or not await self._store.has_key(emr_id):
                raise
            await self.destroy(emr_id)
            return {"emrId": emr_id}
        await self.destroy(emr_id)
        return {"emrId": emr_id, **committed.ids()}

    async def destroy(self, emr_id: str) -> None:
        """After the ledger has it. Repeatable."""
        enrolment_ids = await self._store.forget_patient(emr_id)
        log.info("emr_keydestroyed", emr_id=emr_id)
        for enrolment_id in enrolment_ids:
            try:
                await self._enrolment.revoke_certificates(enrolment_id)
            except Problem:
                log.warning("certificate_not_revoked", enrolment_id=enrolment_id)

    async def finish_all(self) -> None:
        """Destroys the keys of EMRs that the ledger says are erased."""
        for emr_id in await self._store.erased_with_key():
            await self.destroy(emr_id)
