"""A patient's next key: certified now, bound on the ledger in public, counting a day later.

The certificate is stored before anything is submitted, as one of which nobody knows yet whether it will count. Whoever
learns the outcome settles it; what a crash left open is settled from the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from emr_common.calls import Call
from emr_common.ledger import Ledger
from emr_common.next_keys import NextKeys
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.answers import EmrView, PatientKeyRebound
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.values import Emr

from emr_registration.admission import PUBLIC_PART, public_key_hash
from emr_registration.certificate_request import CertificateRequest
from emr_registration.enrolment import Enrolment, Person

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rebinding:
    ledger: Ledger
    enrolment: Enrolment
    next_keys: NextKeys

    async def rebind(self, caller: Caller, emr_id: str, request: CertificateRequest | None) -> dict[str, Any]:
        """Raises Problem EMR_NOT_FOUND, CERTIFICATE_REQUEST_INVALID, CA_UNAVAILABLE, or what the ledger says."""
        call = await self.call(emr_id, request)
        try:
            committed = await self.ledger.perform(caller, call)
        except Problem:
            await self._drop(call.ids["enrolmentId"])
            raise
        return {**await self.settle(call.ids, committed.result), **committed.ids()}

    async def call(self, emr_id: str, request: CertificateRequest | None) -> Call:
        patient = await self.enrolment.of_emr(emr_id)
        if patient is None:
            raise Problem(Code.EMR_NOT_FOUND)
        person = Person(patient.subject, Role.PATIENT, patient.patient_id, emr_id)
        enrolment_id, enrolled = await self.enrolment.certify(person, request)
        await self.next_keys.add(emr_id, enrolment_id, enrolled.certificate_pem, enrolled.private_key)
        patient_key = public_key_hash(enrolled.certificate_pem)
        ids = {"emrId": emr_id, "enrolmentId": enrolment_id}
        return Call(Function.REBIND_PATIENT_KEY, (emr_id, patient_key), ids=ids)

    async def settle(self, ids: Mapping[str, Any], result: bytes) -> dict[str, Any]:
        """After the commit. Repeatable."""
        counts_from = PatientKeyRebound.from_json(result).counts_from
        await self._bound(ids["emrId"], ids["enrolmentId"], counts_from)
        return {**ids, "countsFrom": counts_from.isoformat().replace("+00:00", "Z")}

    async def _bound(self, emr_id: str, enrolment_id: str, counts_from: datetime) -> None:
        for replaced in await self.next_keys.bind(emr_id, enrolment_id, counts_from):
            await self._revoke(replaced)
        log.info("patient_key_bound", emr_id=emr_id, enrolment_id=enrolment_id)

    async def _drop(self, enrolment_id: str) -> None:
        await self.next_keys.drop(enrolment_id)
        await self._revoke(enrolment_id)

    async def _revoke(self, enrolment_id: str) -> None:
        try:
            await self.enrolment.revoke_certificates(enrolment_id)
        except Problem:
            log.warning("certificate_not_revoked", enrolment_id=enrolment_id)

    async def finish_all(self) -> None:
        """Settles what nobody has settled within the time that a prepared transaction has, and has keys that count by
        now take the place of those before.
        """
        for pending in await self.next_keys.unsettled():
            bound = await self._bound_on_ledger(pending.emr_id)
            key = public_key_hash(pending.certificate_pem)
            if bound is None:
                await self._drop(pending.enrolment_id)
            elif bound.next_patient_key is not None and bound.next_patient_key.patient_key == key:
                await self._bound(pending.emr_id, pending.enrolment_id, bound.next_patient_key.counts_from)
            elif bound.patient_key == key:
                await self._bound(pending.emr_id, pending.enrolment_id, bound.at)
            else:
                await self._drop(pending.enrolment_id)
        for ended in await self.next_keys.settle_in():
            await self._revoke(ended)

    async def _bound_on_ledger(self, emr_id: str) -> Emr | None:
        """None for an EMR that is erased. Raises Problem."""
        try:
            answer = await self.ledger.evaluate(self.ledger.service, Function.READ_EMR, emr_id, *PUBLIC_PART)
        except Problem as problem:
            if problem.code in (Code.EMR_ERASED, Code.EMR_NOT_FOUND):
                return None
            raise
        return EmrView.from_json(answer).emr
