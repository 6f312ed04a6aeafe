"""Erasure: asked for by the patient, done by the owner. Writes ``life~`` and purges the owner's collection, and no
more.
"""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import Nothing

from emr_chaincode import rules
from emr_chaincode.call import Call
from emr_chaincode.state import Record, State


async def request_erasure(call: Call) -> Nothing:
    record = await call.patients_record()
    call.state.put(keys.life(record.emr_id), rules.request_erasure(record.life, call.caller, call.now))
    return Nothing()


async def cancel_erasure(call: Call) -> Nothing:
    record = await call.patients_record()
    call.state.put(keys.life(record.emr_id), rules.cancel_erasure(record.life, call.caller, call.now))
    return Nothing()


async def erase_emr(call: Call) -> Nothing:
    record = await call.owned_record()
    call.state.put(keys.life(record.emr_id), rules.erase(record.life, call.caller, call.now))
    _purge_content(call.state, record)
    return Nothing()


def _purge_content(state: State, record: Record) -> None:
    """Keys are counted, not searched: what was written is known from ``emr~``."""
    for revision in range(rules.FIRST_REVISION, record.emr.demographics_revision + 1):
        state.purge(record.emr.owner, keys.demographics(record.emr_id, revision))
    for version in range(1, record.emr.version + 1):
        state.purge(record.emr.owner, keys.note(record.emr_id, version))
