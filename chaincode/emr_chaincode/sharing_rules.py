"""How a sharing goes on and ends: decisions from values alone, without a ledger.

``end`` is always the one with the largest number of its key's history. What a function returns is to be written;
``Refused`` carries the code that callers see.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from emr_model.ledger.codes import Code
from emr_model.ledger.refusals import Refused
from emr_model.ledger.sharing import Sharing, SharingState, next_number, sharing_state
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    Disclosure,
    End,
    EndReason,
    Event,
    OwnerApproval,
    PatientApproval,
    SharedSnapshot,
)

from emr_chaincode.caller import Caller

RECEIPT_COUNTS_FOR = timedelta(minutes=15)


def request_access(access: Access | None, end: End | None, request: AccessRequest) -> Access:
    current = _standing_or_new(access, end, request.at)
    if current.request is not None:
        raise Refused(Code.REQUEST_EXISTS)
    return replace(current, request=request, event=Event.ACCESS_REQUESTED)


def approve_as_owner(access: Access | None, end: End | None, approval: OwnerApproval, current_version: int) -> Access:
    current = _standing_or_new(access, end, approval.at)
    other = current.patient_approval.version if current.patient_approval else None
    _require_meant(approval.version, current_version, other)
    return replace(current, owner_approval=approval, event=Event.OWNER_APPROVED)


def approve_as_patient(
    access: Access | None, end: End | None, approval: PatientApproval, current_version: int
) -> Access:
    if approval.expires_at is not None and approval.expires_at <= approval.at:
        raise Refused(Code.ARGUMENT_INVALID, "expiresAt has passed")
    current = _standing_or_new(access, end, approval.at)
    other = current.owner_approval.version if current.owner_approval else None
    _require_meant(approval.version, current_version, other)
    return replace(current, patient_approval=approval, event=Event.PATIENT_APPROVED)


def share_snapshot(access: Access | None, end: End | None, version: int, sha256: str, now: datetime) -> Access:
    """The snapshot's version is exactly what both have approved, and it comes once."""
    access = require_sharing(access)
    sharing = require_standing(access, end, now)
    if access.owner_approval is None or access.patient_approval is None:
        raise Refused(Code.SHARING_NOT_APPROVED)
    if version == sharing.readable_version:
        raise Refused(Code.SNAPSHOT_EXISTS)
    if version != sharing.pending_version:
        raise Refused(Code.SNAPSHOT_VERSION_WRONG)
    snapshot = SharedSnapshot(version, sha256, access.owner_approval.recipient_key_id, now)
    return replace(access, snapshot=snapshot, event=Event.SNAPSHOT_SHARED)


def end_by_owner(access: Access | None, end: End | None, why: EndReason, caller: Caller, now: datetime) -> End:
    number = _number_to_end(access, end)
    return End(number, caller.enrolment_id, why, now, Event.SHARING_ENDED_BY_OWNER)


def end_by_patient(access: Access | None, end: End | None, caller: Caller, now: datetime) -> End:
    number = _number_to_end(access, end)
    return End(number, caller.enrolment_id, EndReason.REMOVED_BY_PATIENT, now, Event.SHARING_ENDED_BY_PATIENT)


def expire(access: Access | None, end: End | None, caller: Caller, now: datetime) -> End:
    number = _number_to_end(access, end)
    if sharing_state(require_sharing(access), end, now).state is not SharingState.EXPIRED:
        raise Refused(Code.SHARING_NOT_EXPIRED)
    return End(number, caller.enrolment_id, EndReason.EXPIRED, now, Event.SHARING_EXPIRED)


def open_end(now: datetime) -> End:
    """What stands under ``end~`` before anything has ended."""
    return End(0, None, None, now, Event.SHARING_OPENED)


def unreadable_end(access: Access | None, now: datetime) -> End:
    """What the owner wrote by other means than this contract ends what it stands for."""
    number = access.number if access else 0
    return End(number, None, EndReason.WITHDRAWN, now, Event.SHARING_ENDED_BY_OWNER)


def require_sharing(access: Access | None) -> Access:
    if access is None:
        raise Refused(Code.SHARING_NOT_FOUND)
    return access


def require_standing(access: Access, end: End | None, now: datetime) -> Sharing:
    sharing = sharing_state(access, end, now)
    if sharing.state is SharingState.ENDED:
        raise Refused(Code.SHARING_ENDED)
    if sharing.state is SharingState.EXPIRED:
        raise Refused(Code.SHARING_EXPIRED)
    return sharing


def require_readable(access: Access | None, end: End | None, now: datetime) -> tuple[Access, SharedSnapshot]:
    """What another hospital may read now. It learns of a grant that awaits its snapshot, and of nothing else."""
    if access is None:
        raise Refused(Code.ACCESS_NOT_GRANTED)
    sharing = sharing_state(access, end, now)
    if access.snapshot is not None and sharing.readable_version is not None:
        return access, access.snapshot
    if sharing.state is SharingState.APPROVED:
        raise Refused(Code.SNAPSHOT_PENDING)
    raise Refused(Code.ACCESS_NOT_GRANTED)


def require_receipt(disclosure: Disclosure | None, caller: Caller, now: datetime) -> Disclosure:
    """A receipt serves its reader alone, and for a quarter of an hour."""
    if disclosure is None or (disclosure.recipient_msp, disclosure.reader) != (caller.msp_id, caller.enrolment_id):
        raise Refused(Code.RECEIPT_INVALID)
    if now - disclosure.at > RECEIPT_COUNTS_FOR:
        raise Refused(Code.RECEIPT_EXPIRED)
    return disclosure


def require_unchanged(disclosure: Disclosure, access: Access | None, end: End | None, now: datetime) -> SharedSnapshot:
    """The sharing must still stand at the receipt's number and version."""
    if access is None or access.snapshot is None or access.number != disclosure.sharing:
        raise Refused(Code.RECEIPT_EXPIRED)
    if sharing_state(access, end, now).readable_version != disclosure.version:
        raise Refused(Code.RECEIPT_EXPIRED)
    return access.snapshot


def snapshot_in_use(access: Access | None, end: End | None, now: datetime) -> tuple[int, int] | None:
    """Sharing number and version of the one snapshot that may not be purged."""
    if access is None:
        return None
    readable = sharing_state(access, end, now).readable_version
    return None if readable is None else (access.number, readable)


def _standing_or_new(access: Access | None, end: End | None, now: datetime) -> Access:
    """The sharing that goes on. After an ending or an expiry it is a new one, with nothing of the old."""
    if access is not None and sharing_state(access, end, now).stands:
        return access
    return Access(next_number(access, end), None, None, None, None, Event.ACCESS_REQUESTED)


def _require_meant(version: int, current_version: int, other_side: int | None) -> None:
    """An approval says which version it means: the current one, or the one that the other side has approved."""
    if version not in (current_version, other_side):
        raise Refused(Code.APPROVAL_VERSION_UNKNOWN, version=current_version)


def _number_to_end(access: Access | None, end: End | None) -> int:
    number = require_sharing(access).number
    if end is not None and end.number >= number:
        raise Refused(Code.SHARING_ENDED)
    return number
