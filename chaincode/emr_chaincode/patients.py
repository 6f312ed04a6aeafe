"""What a patient asks about the own record."""

from __future__ import annotations

from emr_model.ledger.answers import VisitCount

from emr_chaincode import rules
from emr_chaincode.call import Call


async def get_medical_visit_count(call: Call) -> VisitCount:
    rules.require_own_provider(call.caller, call.arguments.msp_id("providerMsp"))
    record = await call.patients_record()
    return VisitCount(record.emr.visits)
