"""What stands under the keys of public state.

Everything here is public on the channel: people appear as opaque enrolment ids, moments are those of the
transactions. ``event`` is the action that wrote the value; readers of blocks take facts from these values and never
from chaincode events, which one organization alone can forge.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from emr_model.ledger.codec import JsonValue
from emr_model.ledger.purposes import Purpose


class Event(StrEnum):
    """The action that wrote a value, one for each kind of fact."""

    ORGANIZATION_REGISTERED = "organization-registered"
    EMR_CREATED = "emr-created"
    DEMOGRAPHICS_UPDATED = "demographics-updated"
    PATIENT_KEY_REBOUND = "patient-key-rebound"
    NOTE_ADDED = "note-added"
    ACCESS_REQUESTED = "access-requested"
    OWNER_APPROVED = "owner-approved"
    PATIENT_APPROVED = "patient-approved"
    SNAPSHOT_SHARED = "snapshot-shared"
    SHARING_OPENED = "sharing-opened"  # end~ came to be; nothing ended
    SHARING_ENDED_BY_OWNER = "sharing-ended-by-owner"
    SHARING_ENDED_BY_PATIENT = "sharing-ended-by-patient"
    SHARING_EXPIRED = "sharing-expired"
    EMR_DISCLOSED = "emr-disclosed"
    ERASURE_REQUESTED = "erasure-requested"
    ERASURE_CANCELLED = "erasure-cancelled"
    EMR_ERASED = "emr-erased"


class Life(StrEnum):
    """Whether an EMR may be used. ``ERASED`` is for ever, whatever is written after it."""

    ACTIVE = "active"
    ERASURE_REQUESTED = "erasure-requested"
    ERASED = "erased"


class EndReason(StrEnum):
    """Why a sharing ended. The owner says one of the first two, the contract fills in the others."""

    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    REMOVED_BY_PATIENT = "removed-by-patient"
    EXPIRED = "expired"


OWNER_REASONS = (EndReason.DECLINED, EndReason.WITHDRAWN)


@dataclass(frozen=True, slots=True)
class SealingKey(JsonValue):
    """A public key for which snapshots are sealed. ``keyset`` is base64 of a serialized Tink public keyset."""

    id: str
    keyset: str


@dataclass(frozen=True, slots=True)
class OrganizationProfile(JsonValue):
    """The argument of RegisterOrganization: what a hospital says about itself."""

    name: str
    sealing_keys: tuple[SealingKey, ...]


@dataclass(frozen=True, slots=True)
class Organization(JsonValue):
    """``org~``: the profile, and who wrote it when."""

    name: str
    sealing_keys: tuple[SealingKey, ...]
    by: str
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class BoundKey(JsonValue):
    """A patient's key that counts from a moment on."""

    patient_key: str
    counts_from: datetime


@dataclass(frozen=True, slots=True)
class Emr(JsonValue):
    """``emr~``. ``version`` is the number of notes, ``visits`` how many of them are visits.

    ``patient_key`` is the hex SHA-256 of the DER SubjectPublicKeyInfo of the patient's certificate;
    ``next_patient_key`` replaces it once its time has come. ``commitment`` and ``sha256`` are those of the
    demographics at ``demographics_revision``.
    """

    owner: str
    patient_id: str
    patient_key: str
    next_patient_key: BoundKey | None
    version: int
    visits: int
    demographics_revision: int
    commitment: str
    sha256: str
    by: str
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class EmrOf(JsonValue):
    """``emr-of~``: an index, one EMR for a patient in a hospital."""

    emr_id: str
    event: Event = Event.EMR_CREATED


@dataclass(frozen=True, slots=True)
class NoteVersion(JsonValue):
    """``note-id~``: an index."""

    version: int
    event: Event = Event.NOTE_ADDED


@dataclass(frozen=True, slots=True)
class Note(JsonValue):
    """``note~``: ``commitment`` is over the salted content, ``sha256`` over the sealed bytes, both hex."""

    note_id: str
    author: str
    at: datetime
    commitment: str
    sha256: str
    event: Event = Event.NOTE_ADDED


@dataclass(frozen=True, slots=True)
class AccessRequest(JsonValue):
    by: str
    purpose: Purpose
    at: datetime


@dataclass(frozen=True, slots=True)
class OwnerApproval(JsonValue):
    """``recipient_key_id`` names the recipient's sealing key for which the snapshot is to be sealed."""

    by: str
    version: int
    recipient_key_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PatientApproval(JsonValue):
    by: str
    version: int
    expires_at: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True)
class SharedSnapshot(JsonValue):
    """``sha256`` is over the sealed bytes, which ``recipient_key_id`` opens."""

    version: int
    sha256: str
    recipient_key_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Access(JsonValue):
    """``access~``: how far the sharing with this number has come. Whether it stands, ``sharing.sharing_state`` says."""

    number: int
    request: AccessRequest | None
    owner_approval: OwnerApproval | None
    patient_approval: PatientApproval | None
    snapshot: SharedSnapshot | None
    event: Event


@dataclass(frozen=True, slots=True)
class End(JsonValue):
    """``end~``: every sharing up to ``number`` has ended. 0: none has; then nobody ended it and there is no reason."""

    number: int
    by: str | None
    why: EndReason | None
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class LifeState(JsonValue):
    """``life~``."""

    state: Life
    by: str
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class Disclosure(JsonValue):
    """``disclosure~``: one read by another hospital. ``reader`` is an enrolment id of ``recipient_msp``."""

    recipient_msp: str
    sharing: int
    version: int
    reader: str
    purpose: Purpose
    at: datetime
    event: Event = Event.EMR_DISCLOSED
