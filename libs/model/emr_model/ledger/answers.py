"""What the contract's functions answer, as JSON, with status 200.

Sealed content is base64 of the sealed bytes, ``None`` where the endorsing peer does not hold it. Writing functions
that have nothing to say answer :class:`Nothing`, ``{}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from emr_model.ledger.codec import JsonValue
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.sharing import SharingState, Side
from emr_model.ledger.values import Access, Disclosure, Emr, End, Life, Organization


@dataclass(frozen=True, slots=True)
class Nothing(JsonValue):
    """CreateEmr, PurgeSnapshots, RequestErasure, CancelErasure, EraseEmr."""


@dataclass(frozen=True, slots=True)
class OrganizationRegistered(JsonValue):
    """RegisterOrganization. ``created``: the hospital had no profile before."""

    created: bool


@dataclass(frozen=True, slots=True)
class OrganizationView(JsonValue):
    """GetOrganization, and each item of ListOrganizations."""

    msp_id: str
    organization: Organization


@dataclass(frozen=True, slots=True)
class OrganizationList(JsonValue):
    """ListOrganizations. An empty bookmark ends the list."""

    organizations: tuple[OrganizationView, ...]
    bookmark: str


@dataclass(frozen=True, slots=True)
class PatientRegistered(JsonValue):
    """CheckIsPatientRegistered, at the caller's own hospital. An erased EMR counts as not registered, and is not
    named.
    """

    registered: bool
    emr_id: str | None


@dataclass(frozen=True, slots=True)
class DemographicsUpdated(JsonValue):
    """UpdateDemographics."""

    revision: int


@dataclass(frozen=True, slots=True)
class PatientKeyRebound(JsonValue):
    """RebindPatientKey: until then the old key counts."""

    counts_from: datetime


@dataclass(frozen=True, slots=True)
class EmrFound(JsonValue):
    """GetEmrByPatientId."""

    emr_id: str
    emr: Emr
    life: Life


@dataclass(frozen=True, slots=True)
class NoteView(JsonValue):
    version: int
    note_id: str
    author: str
    at: datetime
    commitment: str
    sha256: str
    sealed: str | None


@dataclass(frozen=True, slots=True)
class EmrView(JsonValue):
    """ReadEmr and GetOwnEmr: one page of an EMR.

    Notes stand by ascending version. A page ends before :data:`PAGE_BYTES` of sealed bytes (one note always fits);
    ``next`` is the version to ask from, ``None`` at the end. ``demographics`` are in every page that starts at
    version 1.
    """

    emr_id: str
    emr: Emr
    life: Life
    demographics: str | None
    notes: tuple[NoteView, ...]
    next: int | None


PAGE_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NoteAdded(JsonValue):
    """AddEmrNote: the version under which the note stands."""

    version: int


@dataclass(frozen=True, slots=True)
class SharingNumber(JsonValue):
    """RequestEmrAccess, AuthorizeEmrReading, ApproveEmrSharing, ShareEmrSnapshot and the endings: the sharing they
    mean.
    """

    emr_id: str
    number: int


@dataclass(frozen=True, slots=True)
class SharingView(JsonValue):
    """GetSharing, and each item of GetOwnSharings: the values and what ``sharing_state`` makes of them at the
    transaction's time.

    ``end`` carries the largest number of its key's history. ``current_version`` is the EMR's number of notes.
    """

    emr_id: str
    owner_msp: str
    recipient_msp: str
    number: int
    state: SharingState
    readable_version: int | None
    pending_version: int | None
    awaiting: Side | None
    current_version: int
    life: Life
    access: Access
    end: End | None


@dataclass(frozen=True, slots=True)
class SharingList(JsonValue):
    """GetOwnSharings. An empty bookmark ends the list."""

    sharings: tuple[SharingView, ...]
    bookmark: str


@dataclass(frozen=True, slots=True)
class Receipt(JsonValue):
    """GetSharedEMR. ``receipt`` is ``{emrId}.{txId}``; it counts once its transaction has committed as valid."""

    receipt: str
    emr_id: str
    sharing: int
    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class NoteCommitment(JsonValue):
    """What public state says of a note that a snapshot holds."""

    version: int
    note_id: str
    commitment: str


@dataclass(frozen=True, slots=True)
class DemographicsCommitment(JsonValue):
    """What public state said of the demographics at a revision."""

    revision: int
    commitment: str


@dataclass(frozen=True, slots=True)
class SharedEmr(JsonValue):
    """ReadSharedEmr: the sealed snapshot, which ``recipient_key_id`` opens, and what its associated data is made of.

    ``notes`` (versions 1 to ``version``) and ``demographics`` (every revision there was) are what the opened content is
    verified against.
    """

    receipt: str
    emr_id: str
    owner_msp: str
    recipient_msp: str
    sharing: int
    version: int
    sha256: str
    recipient_key_id: str
    purpose: Purpose
    disclosed_at: datetime
    shared_at: datetime
    notes: tuple[NoteCommitment, ...]
    demographics: tuple[DemographicsCommitment, ...]
    sealed: str


@dataclass(frozen=True, slots=True)
class PurgeableEmr(JsonValue):
    """``snapshots``: what PurgeSnapshots takes, ``{sharing}~{version}`` each."""

    emr_id: str
    snapshots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PurgeableList(JsonValue):
    """ListPurgeableSnapshots. A page may be empty though the list goes on; an empty bookmark ends it."""

    purgeable: tuple[PurgeableEmr, ...]
    bookmark: str


@dataclass(frozen=True, slots=True)
class VisitCount(JsonValue):
    """GetMedicalVisitCount."""

    visits: int


@dataclass(frozen=True, slots=True)
class DisclosureView(JsonValue):
    receipt: str
    disclosure: Disclosure


@dataclass(frozen=True, slots=True)
class DisclosureList(JsonValue):
    """GetOwnDisclosures, in the order of transaction ids, not of time. An empty bookmark ends the list."""

    disclosures: tuple[DisclosureView, ...]
    bookmark: str
