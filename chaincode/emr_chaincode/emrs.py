"""EMRs: created, found, their demographics and the patient's key."""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import DemographicsUpdated, EmrFound, Nothing, PatientKeyRebound, PatientRegistered
from emr_model.ledger.codes import Code
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import EmrOf, Event, Life, LifeState

from emr_chaincode import rules
from emr_chaincode.call import Call
from emr_chaincode.state import found


async def create_emr(call: Call) -> Nothing:
    emr_id, patient_id = call.arguments.identifier("emrId"), call.arguments.identifier("patientId")
    sha256, commitment = call.arguments.digest("sha256"), call.arguments.digest("commitment")
    sealed = call.arguments.sealed("demographics", sha256)
    owner = call.caller.msp_id
    await _require_new(call, emr_id, patient_id)
    emr = rules.create_emr(call.caller, patient_id, call.arguments.digest("patientKey"), commitment, sha256, call.now)
    life = LifeState(Life.ACTIVE, call.caller.enrolment_id, call.now, Event.EMR_CREATED)
    call.state.put(keys.emr(emr_id), emr)
    call.state.put(keys.emr_of(owner, patient_id), EmrOf(emr_id))
    call.state.put_under_owner(keys.life(emr_id), life, owner)
    call.state.put_sealed(owner, keys.demographics(emr_id, emr.demographics_revision), sealed)
    return Nothing()


async def check_is_patient_registered(call: Call) -> PatientRegistered:
    record = await call.state.record_of_patient(call.caller.msp_id, call.arguments.identifier("patientId"))
    if record is None or record.life is Life.ERASED:
        return PatientRegistered(registered=False, emr_id=None)
    return PatientRegistered(registered=True, emr_id=record.emr_id)


async def get_emr_by_patient_id(call: Call) -> EmrFound:
    record = found(await call.state.record_of_patient(call.caller.msp_id, call.arguments.identifier("patientId")))
    rules.require_not_erased(record.life)
    return EmrFound(record.emr_id, record.emr, record.life)


async def update_demographics(call: Call) -> DemographicsUpdated:
    expected = call.arguments.number("expectedRevision")
    sha256, commitment = call.arguments.digest("sha256"), call.arguments.digest("commitment")
    sealed = call.arguments.sealed("demographics", sha256)
    record = await call.owned_record()
    emr = rules.update_demographics(record.emr, expected, commitment, sha256, call.caller, call.now)
    call.state.put(keys.emr(record.emr_id), emr)
    call.state.put_sealed(emr.owner, keys.demographics(record.emr_id, emr.demographics_revision), sealed)
    return DemographicsUpdated(emr.demographics_revision)


async def rebind_patient_key(call: Call) -> PatientKeyRebound:
    new_key = call.arguments.digest("patientKey")
    record = await call.owned_record()
    emr = rules.rebind_patient_key(record.emr, new_key, call.caller, call.now)
    call.state.put(keys.emr(record.emr_id), emr)
    return PatientKeyRebound(emr.next_patient_key.counts_from if emr.next_patient_key else call.now)


async def _require_new(call: Call, emr_id: str, patient_id: str) -> None:
    emr, life, index = await call.state.read(
        keys.emr(emr_id), keys.life(emr_id), keys.emr_of(call.caller.msp_id, patient_id)
    )
    if index is not None:
        raise Refused(Code.PATIENT_ALREADY_REGISTERED)
    if emr is not None or life is not None:
        raise Refused(Code.EMR_EXISTS)
