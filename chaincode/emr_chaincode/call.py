"""One call of the contract, as the functions see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from emr_model.ledger.codes import Code
from emr_model.ledger.refusals import Refused

from emr_chaincode import rules
from emr_chaincode.arguments import Arguments
from emr_chaincode.caller import Caller
from emr_chaincode.state import Record, State


@dataclass(frozen=True, slots=True)
class Call:
    """``now`` is the transaction's time, the only one there is."""

    caller: Caller
    arguments: Arguments
    state: State
    now: datetime
    transaction_id: str

    async def owned_record(self) -> Record:
        """The EMR that ``emrId`` names, which must belong to the caller's hospital and not be erased."""
        record = await self.state.record(self.arguments.identifier("emrId"))
        rules.require_owner(self.caller, record.emr)
        rules.require_not_erased(record.life)
        return record

    async def patients_record(self) -> Record:
        """The EMR of the patient who calls, not erased. Whoever is bound to none is told no more."""
        record = None
        if self.caller.patient_id:
            record = await self.state.record_of_patient(self.caller.msp_id, self.caller.patient_id)
        if record is None:
            raise Refused(Code.PATIENT_KEY_NOT_BOUND)
        rules.require_patient(self.caller, record.emr, self.now)
        rules.require_not_erased(record.life)
        return record
