"""Where a sharing stands: the one table that the contract and the services use.

========== ========== ============ ========== =================
ended?     expired?   approvals    snapshot   state
========== ========== ============ ========== =================
yes        any        any          any        ended
no         yes        any          any        expired
no         no         none         none       requested
no         no         owner's      none       awaiting_patient
no         no         patient's    none       awaiting_owner
no         no         both         not of it  approved
no         no         both         of it      shared
========== ========== ============ ========== =================

A snapshot is "of it" when its version is the approved one: exactly the smaller of the two approvals. An older
snapshot of the same sharing stays readable until the approved one is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from emr_model.ledger.values import Access, End


class SharingState(StrEnum):
    REQUESTED = "requested"
    AWAITING_OWNER = "awaiting_owner"
    AWAITING_PATIENT = "awaiting_patient"
    APPROVED = "approved"
    SHARED = "shared"
    ENDED = "ended"
    EXPIRED = "expired"

    @property
    def stands(self) -> bool:
        """Neither ended nor expired."""
        return self not in (SharingState.ENDED, SharingState.EXPIRED)


class Side(StrEnum):
    OWNER = "owner"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class Sharing:
    """What follows from ``access~`` and ``end~`` at a moment.

    ``readable_version``: of the snapshot that the recipient may read now. ``pending_version``: approved by both,
    snapshot missing. ``awaiting``: whose approval is missing for anything newer than what both approved to be shared.
    """

    number: int
    state: SharingState
    readable_version: int | None
    pending_version: int | None
    awaiting: Side | None

    @property
    def stands(self) -> bool:
        return self.state.stands


def sharing_state(access: Access, end: End | None, now: datetime) -> Sharing:
    """``end`` must carry the largest number of its key's history; None counts as number 0. An expiry counts from its
    moment on.
    """
    if end is not None and end.number >= access.number:
        return Sharing(access.number, SharingState.ENDED, None, None, None)
    if has_expired(access, now):
        return Sharing(access.number, SharingState.EXPIRED, None, None, None)
    approved = approved_version(access)
    readable = access.snapshot.version if access.snapshot else None
    pending = approved if approved != readable else None
    return Sharing(access.number, _standing_state(access, pending), readable, pending, _awaiting(access))


def has_expired(access: Access, now: datetime) -> bool:
    approval = access.patient_approval
    return approval is not None and approval.expires_at is not None and now >= approval.expires_at


def approved_version(access: Access) -> int | None:
    """The version that both sides have approved: exactly the smaller of the two. None unless there are two."""
    if access.owner_approval is None or access.patient_approval is None:
        return None
    return min(access.owner_approval.version, access.patient_approval.version)


def next_number(access: Access | None, end: End | None) -> int:
    """The number of the sharing that follows what has ended or expired."""
    return max(access.number if access else 0, end.number if end else 0) + 1


def _standing_state(access: Access, pending: int | None) -> SharingState:
    if access.owner_approval is None:
        return SharingState.AWAITING_OWNER if access.patient_approval else SharingState.REQUESTED
    if access.patient_approval is None:
        return SharingState.AWAITING_PATIENT
    return SharingState.SHARED if pending is None else SharingState.APPROVED


def _awaiting(access: Access) -> Side | None:
    owner = access.owner_approval.version if access.owner_approval else -1
    patient = access.patient_approval.version if access.patient_approval else -1
    if owner == patient:
        return None
    return Side.OWNER if owner < patient else Side.PATIENT
