"""Bodies of the consent API. Strict: an unknown member is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from emr_model.ledger.purposes import Purpose
from emr_model.ledger.sharing import SharingState
from emr_model.ledger.values import OWNER_REASONS, EndReason
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

MspId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9.-]{0,62}$")]
LedgerId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Version = Annotated[int, Field(strict=True, ge=0, lt=10**10)]


def _owner_reason(why: EndReason) -> EndReason:
    if why not in OWNER_REASONS:
        raise ValueError("not a reason that an owner gives")
    return why


def _written_moment(value: Any) -> Any:
    """A number would be taken for seconds since 1970."""
    if not isinstance(value, datetime) and (not isinstance(value, str) or ":" not in value):
        raise ValueError("not a moment as RFC 3339 writes it")
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment beyond all years in UTC") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_written_moment), AfterValidator(_in_utc)]
OwnerReason = Annotated[EndReason, AfterValidator(_owner_reason)]
Direction = Literal["outgoing", "incoming"]


class Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class AccessRequestIn(Body):
    """What the patient gave: who owns the EMR, and the patient's id there (``GET /v1/me``)."""

    owner_msp: MspId
    patient_id: LedgerId
    purpose: Purpose = Field(description="A code of HL7 PurposeOfUse, such as TREAT")


class OwnerApprovalIn(Body):
    """``version`` is the EMR's current one, or the one that the patient has approved."""

    version: Version
    recipient_key_id: KeyId | None = Field(
        default=None, description="Sealing key of the recipient; without it the newest that it has published"
    )


class PatientApprovalIn(Body):
    """``version`` is the EMR's current one, or the one that the owner has approved."""

    version: Version
    expires_at: Moment | None = Field(default=None, description="When the sharing ends by itself")


class SharingOut(Body):
    """A sharing as the read model has it: ids, versions and moments, no content."""

    emr_id: str
    owner_msp: str
    recipient_msp: str
    patient_id: str
    number: int
    state: SharingState
    requested_at: datetime | None
    request_purpose: str | None
    owner_approved_version: int | None
    owner_approved_at: datetime | None
    patient_approved_version: int | None
    patient_approved_at: datetime | None
    expires_at: datetime | None
    snapshot_version: int | None
    snapshot_at: datetime | None
    ended_at: datetime | None
    ended_why: str | None
    transaction_id: str
    block: int


class ListedSharingOut(SharingOut):
    is_parked: bool = Field(description="Whether this is the sharing as it was before something that waits")


class SharingsOut(Body):
    """One page. ``next`` is the cursor of the page after it, None at the end. While EMRs of the list's direction are
    parked, ``isComplete`` is false: their sharings are not all here, or not as they are now.
    """

    sharings: list[ListedSharingOut]
    as_of_block: int | None = Field(
        alias="as_of_block", description="Everything up to this block is in this answer, but what waits of parked EMRs"
    )
    next: str | None
    is_complete: bool
    parked_emrs: int = Field(description="How many EMRs that the list may be about wait for a correction")
    parked_emr_ids: list[str] = Field(description="The first 20 of them")


class NoteOutlineOut(Body):
    """A note without its content. ``is_new``: it came after the last approval of whoever looks."""

    version: int
    note_id: str
    kind: Literal["encounter", "background", "amendment", "text"]
    at: datetime = Field(description="When it was added")
    period_start: datetime | None = Field(description="When the encounter began, for visits")
    is_new: bool


class OwnerPreviewOut(Body):
    """What would be shared at ``version``. ``state`` is null when no sharing stands between the two."""

    emr_id: str
    recipient_msp: str
    recipient_name: str
    state: SharingState | None
    purpose: str | None = Field(description="What the recipient asked for; null when it did not ask")
    version: int
    current_version: int
    approved_version: int | None = Field(description="What the one who looks approved last")
    readable_version: int | None = Field(description="What the recipient can read now")
    demographics_revision: int
    notes: list[NoteOutlineOut]


class NotePreviewOut(NoteOutlineOut):
    content: dict[str, Any] = Field(description="The note, a FHIR Bundle")


class PatientPreviewOut(OwnerPreviewOut):
    """The same with all content: exactly what the recipient would read."""

    demographics: dict[str, Any] = Field(description="The FHIR Patient")
    notes: list[NotePreviewOut]  # type: ignore[assignment]


class OwnSharingsOut(BaseModel):
    """The caller's sharings as the ledger has them now."""

    sharings: list[dict[str, Any]]
