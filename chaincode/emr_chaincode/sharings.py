"""Sharings: asked for, approved by hospital and patient, given, ended."""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import SharingList, SharingNumber, SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from emr_model.ledger.keys import Key, ObjectType
from emr_model.ledger.refusals import Refused
from emr_model.ledger.sharing import sharing_state
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    End,
    Life,
    Organization,
    OwnerApproval,
    PatientApproval,
)
from hlf.chaincode import composite_key, split_composite_key

from emr_chaincode import rules, sharing_rules
from emr_chaincode.arguments import encode_bookmark
from emr_chaincode.call import Call
from emr_chaincode.state import Record, SharingRecord


async def request_emr_access(call: Call) -> SharingNumber:
    owner, patient_id = call.arguments.msp_id("ownerMsp"), call.arguments.identifier("patientId")
    purpose, recipient = call.arguments.purpose("purpose"), call.caller.msp_id
    rules.require_other_hospital(owner, recipient)
    record = await call.state.record_of_patient(owner, patient_id)
    if record is None or record.life is Life.ERASED:
        raise Refused(Code.ACCESS_NOT_GRANTED)
    rules.require_shareable(record.life)
    sharing = await call.state.sharing(record.emr_id, recipient)
    request = AccessRequest(call.caller.enrolment_id, purpose, call.now)
    return await _write(
        call, record, recipient, sharing_rules.request_access(sharing.access, sharing.end, request), sharing
    )


async def authorize_emr_reading(call: Call) -> SharingNumber:
    recipient = call.arguments.msp_id("recipientMsp")
    version, key_id = call.arguments.number("version"), call.arguments.key_id("recipientKeyId")
    record = await call.owned_record()
    rules.require_shareable(record.life)
    await _require_recipient(call, record, recipient, key_id)
    sharing = await call.state.sharing(record.emr_id, recipient)
    approval = OwnerApproval(call.caller.enrolment_id, version, key_id, call.now)
    approved = sharing_rules.approve_as_owner(sharing.access, sharing.end, approval, record.emr.version)
    return await _write(call, record, recipient, approved, sharing)


async def approve_emr_sharing(call: Call) -> SharingNumber:
    recipient = call.arguments.msp_id("recipientMsp")
    version, expires_at = call.arguments.number("version"), call.arguments.optional_timestamp("expiresAt")
    record = await call.patients_record()
    rules.require_shareable(record.life)
    await _require_recipient(call, record, recipient)
    sharing = await call.state.sharing(record.emr_id, recipient)
    approval = PatientApproval(call.caller.enrolment_id, version, expires_at, call.now)
    approved = sharing_rules.approve_as_patient(sharing.access, sharing.end, approval, record.emr.version)
    return await _write(call, record, recipient, approved, sharing)


async def share_emr_snapshot(call: Call) -> SharingNumber:
    recipient, version = call.arguments.msp_id("recipientMsp"), call.arguments.number("version")
    sha256 = call.arguments.digest("sha256")
    sealed = call.arguments.sealed("snapshot", sha256)
    record = await call.owned_record()
    rules.require_shareable(record.life)
    sharing = await call.state.sharing(record.emr_id, recipient)
    shared = sharing_rules.share_snapshot(sharing.access, sharing.end, version, sha256, call.now)
    call.state.put_sealed(recipient, keys.snapshot(record.emr_id, shared.number, version), sealed)
    return await _write(call, record, recipient, shared, sharing)


async def end_emr_reading(call: Call) -> SharingNumber:
    recipient, why = call.arguments.msp_id("recipientMsp"), call.arguments.owner_reason("why")
    record = await call.owned_record()
    sharing = await call.state.sharing(record.emr_id, recipient)
    end = sharing_rules.end_by_owner(sharing.access, sharing.end, why, call.caller, call.now)
    return _end(call, record, recipient, end, sharing)


async def remove_emr_sharing(call: Call) -> SharingNumber:
    recipient = call.arguments.msp_id("recipientMsp")
    record = await call.patients_record()
    sharing = await call.state.sharing(record.emr_id, recipient)
    end = sharing_rules.end_by_patient(sharing.access, sharing.end, call.caller, call.now)
    return _end(call, record, recipient, end, sharing)


async def expire_sharing(call: Call) -> SharingNumber:
    recipient = call.arguments.msp_id("recipientMsp")
    record = await call.owned_record()
    sharing = await call.state.sharing(record.emr_id, recipient)
    end = sharing_rules.expire(sharing.access, sharing.end, call.caller, call.now)
    return _end(call, record, recipient, end, sharing)


async def get_sharing(call: Call) -> SharingView:
    emr_id, recipient = call.arguments.identifier("emrId"), call.arguments.msp_id("recipientMsp")
    record = await call.state.find_record(emr_id)
    if record is None or not _may_see(call, record, recipient):
        raise Refused(Code.ACCESS_NOT_GRANTED)
    return _view(call, record, recipient, await call.state.sharing(emr_id, recipient))


async def get_own_sharings(call: Call) -> SharingList:
    record = await call.patients_record()
    prefix = Key(ObjectType.ACCESS, (record.emr_id,))
    page_size, bookmark = call.arguments.page_size(), call.arguments.bookmark(composite_key(*prefix))
    page = await call.state.page(prefix, page_size, bookmark)
    recipients = [split_composite_key(item.key)[1][1] for item in page.items]
    views = [_view(call, record, msp, await call.state.sharing(record.emr_id, msp)) for msp in recipients]
    return SharingList(tuple(views), encode_bookmark(page.bookmark))


async def _require_recipient(call: Call, record: Record, recipient_msp: str, key_id: str | None = None) -> None:
    """It is another hospital, known here, and has the sealing key that is named."""
    rules.require_other_hospital(record.emr.owner, recipient_msp)
    organization = await call.state.get(Organization, keys.organization(recipient_msp))
    if organization is None:
        raise Refused(Code.ORGANIZATION_NOT_FOUND)
    if key_id is not None and all(key.id != key_id for key in organization.sealing_keys):
        raise Refused(Code.RECIPIENT_KEY_UNKNOWN)


async def _write(call: Call, record: Record, recipient: str, access: Access, before: SharingRecord) -> SharingNumber:
    """Whoever first writes ``access~`` creates ``end~``. Where others have done so under a policy of theirs, it comes
    under the owner's together with ``access~``, or neither is written: whatever is shared, the owner alone can end."""
    key = keys.end(record.emr_id, recipient)
    is_owners = before.is_open and await call.state.is_under_owner(key, record.emr.owner)
    call.state.put(keys.access(record.emr_id, recipient), access)
    if not is_owners:
        end = before.end or sharing_rules.open_end(call.now)
        call.state.put_end(record, recipient, end, is_open=False)
    return SharingNumber(record.emr_id, access.number)


def _end(call: Call, record: Record, recipient: str, end: End, before: SharingRecord) -> SharingNumber:
    """Writes nothing else: the owner's peer alone endorses it."""
    call.state.put_end(record, recipient, end, is_open=before.is_open)
    return SharingNumber(record.emr_id, end.number)


def _may_see(call: Call, record: Record, recipient_msp: str) -> bool:
    if call.caller.role is Role.PATIENT:
        rules.require_patient(call.caller, record.emr, call.now)
        return True
    return call.caller.msp_id in (record.emr.owner, recipient_msp)


def _view(call: Call, record: Record, recipient: str, found: SharingRecord) -> SharingView:
    access = sharing_rules.require_sharing(found.access)
    sharing = sharing_state(access, found.end, call.now)
    return SharingView(
        emr_id=record.emr_id,
        owner_msp=record.emr.owner,
        recipient_msp=recipient,
        number=sharing.number,
        state=sharing.state,
        readable_version=sharing.readable_version,
        pending_version=sharing.pending_version,
        awaiting=sharing.awaiting,
        current_version=record.emr.version,
        life=record.life,
        access=access,
        end=found.end,
    )
