"""Reads by another hospital: each leaves a receipt on the ledger before anything is shown."""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import (
    DemographicsCommitment,
    DisclosureList,
    DisclosureView,
    NoteCommitment,
    Receipt,
    SharedEmr,
)
from emr_model.ledger.codes import Code
from emr_model.ledger.keys import Key, ObjectType
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import Disclosure, Emr, Life, Note
from hlf.chaincode import KeyValue, composite_key, split_composite_key

from emr_chaincode import rules, sharing_rules
from emr_chaincode.arguments import encode_bookmark
from emr_chaincode.call import Call
from emr_chaincode.state import decode, found


async def get_shared_emr(call: Call) -> Receipt:
    """ "No such patient", "erased" and "no grant" are one answer."""
    owner, patient_id = call.arguments.msp_id("ownerMsp"), call.arguments.identifier("patientId")
    purpose, recipient = call.arguments.purpose("purpose"), call.caller.msp_id
    rules.require_other_hospital(owner, recipient)
    record = await call.state.record_of_patient(owner, patient_id)
    if record is None or record.life is Life.ERASED:
        raise Refused(Code.ACCESS_NOT_GRANTED)
    sharing = await call.state.sharing(record.emr_id, recipient)
    access, snapshot = sharing_rules.require_readable(sharing.access, sharing.end, call.now)
    rules.require_shareable(record.life)
    disclosure = Disclosure(
        recipient_msp=recipient,
        sharing=access.number,
        version=snapshot.version,
        reader=call.caller.enrolment_id,
        purpose=purpose,
        at=call.now,
    )
    call.state.put(keys.disclosure(record.emr_id, call.transaction_id), disclosure)
    receipt = _receipt(record.emr_id, call.transaction_id)
    return Receipt(receipt, record.emr_id, access.number, snapshot.version, snapshot.sha256)


async def read_shared_emr(call: Call) -> SharedEmr:
    emr_id, transaction_id = call.arguments.receipt("receipt")
    raw_emr, raw_life, raw = await call.state.read(
        keys.emr(emr_id), keys.life(emr_id), keys.disclosure(emr_id, transaction_id)
    )
    disclosure = sharing_rules.require_receipt(decode(Disclosure, raw), call.caller, call.now)
    record = found(await call.state.record_from(emr_id, raw_emr, raw_life))
    if record.life is not Life.ACTIVE:
        raise Refused(Code.RECEIPT_EXPIRED)
    sharing = await call.state.sharing(emr_id, call.caller.msp_id)
    snapshot = sharing_rules.require_unchanged(disclosure, sharing.access, sharing.end, call.now)
    return SharedEmr(
        receipt=_receipt(emr_id, transaction_id),
        emr_id=emr_id,
        owner_msp=record.emr.owner,
        recipient_msp=disclosure.recipient_msp,
        sharing=disclosure.sharing,
        version=disclosure.version,
        sha256=snapshot.sha256,
        recipient_key_id=snapshot.recipient_key_id,
        purpose=disclosure.purpose,
        disclosed_at=disclosure.at,
        shared_at=snapshot.at,
        notes=await _note_commitments(call, emr_id, disclosure.version),
        demographics=await _demographics_commitments(call, emr_id),
        sealed=await _sealed(call, emr_id, disclosure),
    )


async def get_own_disclosures(call: Call) -> DisclosureList:
    record = await call.patients_record()
    prefix = Key(ObjectType.DISCLOSURE, (record.emr_id,))
    page_size, bookmark = call.arguments.page_size(), call.arguments.bookmark(composite_key(*prefix))
    page = await call.state.page(prefix, page_size, bookmark)
    return DisclosureList(tuple(map(_view, page.items)), encode_bookmark(page.bookmark))


async def _sealed(call: Call, emr_id: str, disclosure: Disclosure) -> str:
    """Not there though it stands in the collection: this peer has not got it yet. Else it was purged."""
    key = keys.snapshot(emr_id, disclosure.sharing, disclosure.version)
    (sealed,) = await call.state.get_sealed(call.caller.msp_id, [key])
    if sealed is not None:
        return sealed
    if await call.state.is_held(call.caller.msp_id, key):
        raise Refused(Code.CONTENT_UNAVAILABLE)
    raise Refused(Code.SNAPSHOT_NOT_FOUND)


async def _note_commitments(call: Call, emr_id: str, version: int) -> tuple[NoteCommitment, ...]:
    versions = range(1, version + 1)
    notes = [decode(Note, raw) for raw in await call.state.read(*(keys.note(emr_id, one) for one in versions))]
    return tuple(
        NoteCommitment(one, note.note_id, note.commitment) for one, note in zip(versions, notes, strict=True) if note
    )


async def _demographics_commitments(call: Call, emr_id: str) -> tuple[DemographicsCommitment, ...]:
    """A snapshot keeps the revision that it was made with: ``emr~`` has only the newest, its history all."""
    ever = {emr.demographics_revision: emr.commitment for emr in await call.state.history(Emr, keys.emr(emr_id))}
    return tuple(DemographicsCommitment(revision, ever[revision]) for revision in sorted(ever))


def _view(item: KeyValue) -> DisclosureView:
    _, (emr_id, transaction_id) = split_composite_key(item.key)
    disclosure = decode(Disclosure, item.value)
    assert disclosure is not None
    return DisclosureView(_receipt(emr_id, transaction_id), disclosure)


def _receipt(emr_id: str, transaction_id: str) -> str:
    return f"{emr_id}.{transaction_id}"
