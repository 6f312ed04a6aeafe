"""Bodies of the records API. Strict: an unknown member is refused. Clinical content passes through untouched."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from emr_model.clinical.limits import TEXT_MAX_CHARACTERS
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.values import Life
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

LedgerId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
MspId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
ReceiptId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.[0-9a-f]{64}$")]
Version = Annotated[int, Field(ge=1, lt=10**10)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_MAX_CHARACTERS)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Code = Annotated[str, Field(min_length=1, max_length=100)]
Fhir = dict[str, Any]


class Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


# notes


class TextNoteIn(Body):
    """A note that the physician types. It is wrapped as a DocumentReference."""

    text: Text
    title: Title | None = None


class AmendmentIn(Body):
    """A correction of, or an addition to, an earlier note of the same EMR: a text, or resources as they are to read."""

    amends: LedgerId = Field(description="The noteId of the note that is amended")
    text: Text | None = None
    title: Title | None = None
    bundle: Fhir | None = Field(default=None, description="A FHIR R4 Bundle")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.bundle is None):
            raise ValueError("an amendment has a text or a bundle")
        return self


class NoteAddedOut(Body):
    """``transactionId`` and ``block`` are missing from the answer to a note that was known already (200)."""

    emr_id: LedgerId
    note_id: LedgerId
    version: Version
    transaction_id: str | None = None
    block: int | None = None


class NoteQueuedOut(Body):
    """``GET /v1/transactions/{ticket}`` tells where it stands."""

    ticket: str = Field(pattern="^[0-9a-f]{64}$")
    emr_id: LedgerId
    note_id: LedgerId


class NoteOut(Body):
    """A note as the ledger has it, opened. ``commitment`` is SHA-256(salt ‖ content), ``salt`` in base64."""

    version: Version
    note_id: LedgerId
    kind: Literal["encounter", "background", "amendment", "text"]
    author: str = Field(description="Enrolment id of the physician")
    at: datetime
    commitment: str
    sha256: str
    salt: str
    content: Fhir


class NotesOut(Body):
    """One page of notes; ``next`` is the version to ask from for the next, null at the end."""

    emr_id: LedgerId
    version: int = Field(description="Number of notes in the EMR")
    notes: list[NoteOut]
    next: Version | None


# EMRs


class EmrOut(Body):
    """An EMR without its notes. ``demographics`` is the FHIR Patient."""

    emr_id: LedgerId
    owner_msp: MspId
    patient_id: LedgerId
    life: Life
    version: int = Field(description="Number of notes")
    visits: int = Field(description="Number of notes that are visits")
    demographics_revision: int
    demographics: Fhir


class EmrFoundOut(Body):
    """The EMR of a patient."""

    emr_id: LedgerId
    owner_msp: MspId
    patient_id: LedgerId
    life: Life
    version: int
    visits: int


class EmrsFoundOut(Body):
    """One, or the answer is a problem."""

    emrs: list[EmrFoundOut]


class IdentifierIn(Body):
    """An identifier by which admission recognizes patients. Only its HMAC is looked for."""

    system: Annotated[str, Field(min_length=1, max_length=200)]
    value: Annotated[str, Field(min_length=1, max_length=200)]


class SearchIn(Body):
    """What the EMRs are to have in common; at least one criterion. Names match from their beginning, in any case.

    Hits are in the order of the name that is sought; with dates alone, the last visit's, latest first; else of ids.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"familyName": "mor", "birthDate": "1975-04-02", "limit": 20}]}
    )

    family_name: Name | None = None
    given_name: Name | None = None
    birth_date: date | None = None
    sex: Literal["male", "female", "other", "unknown"] | None = None
    condition_code: Code | None = Field(default=None, description="A code of a Condition in any note")
    medication_code: Code | None = Field(default=None, description="A code of a MedicationRequest in any note")
    identifier: IdentifierIn | None = None
    visited_from: date | None = Field(default=None, description="Some visit was on this day (UTC) or later")
    visited_to: date | None = Field(default=None, description="and on this one or earlier")
    text: Annotated[str | None, Field(min_length=1, max_length=200)] = Field(
        default=None, description='Words in one note, whole and in any case; "…" for a phrase, or, - for not'
    )
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_=-]{1,1000}$")] = Field(
        default=None, description="``next`` of the page before, with the same criteria"
    )
    min_block: Annotated[int | None, Field(ge=0)] = None

    @property
    def criteria(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True, exclude={"limit", "after", "min_block"})

    @model_validator(mode="after")
    def _some_criterion(self) -> Self:
        if not self.criteria:
            raise ValueError("a search has a criterion")
        if self.visited_from is not None and self.visited_to is not None and self.visited_to < self.visited_from:
            raise ValueError("visitedTo is before visitedFrom")
        if any("\0" in text for text in (self.family_name, self.given_name, self.text) if text is not None):
            raise ValueError("a text has no character U+0000")
        return self


class HitOut(Body):
    emr_id: LedgerId
    patient_id: LedgerId
    family_name: str | None
    given_names: str | None
    birth_date: date | None
    sex: str | None
    life: Life
    version: int
    visits: int
    is_parked: bool = Field(description="Whether this is the EMR as it was before something that waits; read it")


class SearchOut(Body):
    """``as_of_block``: everything up to this block is in this answer, but what waits of parked EMRs. With any of them
    ``isComplete`` is false: one may be missing here, or be here without fitting. ``GET /v1/emrs/{emr}`` reads the
    ledger and knows no parking.
    """

    emrs: list[HitOut]
    as_of_block: int | None = Field(alias="as_of_block")
    next: str | None
    is_complete: bool
    parked_emrs: int = Field(description="How many EMRs the search may be about wait for a correction")
    parked_emr_ids: list[str] = Field(description="The first 20 of them")


# imports of bundles


class ImportAcceptedOut(Body):
    import_id: LedgerId
    emr_id: LedgerId
    notes: int = Field(description="How many notes the bundle makes")
    refused: int = Field(description="How many were refused, each as a whole")


class ImportNoteOut(Body):
    """A note of an import: a version, or the stable code of why there is none."""

    position: int
    note_id: LedgerId | None
    version: int | None
    code: str | None
    transaction_id: str | None
    block: int | None


class ImportRemarkOut(Body):
    """A resource that is in no note, by type and position, or how many of a type were ignored; and why."""

    resource: str
    code: str = Field(description="BUNDLE_INVALID for what was refused, IGNORED for what no note has")


class ImportOut(Body):
    import_id: LedgerId
    emr_id: LedgerId
    state: Literal["queued", "running", "done", "failed"]
    notes: list[ImportNoteOut]
    remarks: list[ImportRemarkOut]


# other hospitals' EMRs


class DisclosureIn(Body):
    """Whose EMR is read, and what for: what the patient gave (``GET /v1/me``), and a code of HL7 PurposeOfUse."""

    owner_msp: MspId
    patient_id: LedgerId
    purpose: Purpose


class DisclosureOut(Body):
    """A receipt, good for 15 minutes."""

    receipt: ReceiptId
    emr_id: LedgerId
    sharing: int
    version: int
    sha256: str
    transaction_id: str
    block: int


class SharedNoteOut(Body):
    version: Version
    note_id: LedgerId
    kind: str
    commitment: str
    salt: str
    content: Fhir


class SharedEmrOut(Body):
    """The snapshot that both sides approved, as of ``version``."""

    receipt: ReceiptId
    emr_id: LedgerId
    owner_msp: MspId
    sharing: int
    version: int
    purpose: Purpose
    disclosed_at: datetime
    shared_at: datetime
    sha256: str
    demographics_revision: int
    demographics: Fhir
    notes: list[SharedNoteOut]


# the patient's own


class OwnDisclosureOut(Body):
    receipt: ReceiptId
    recipient_msp: MspId
    sharing: int
    version: int
    reader: str
    purpose: Purpose
    at: datetime


class OwnDisclosuresOut(Body):
    disclosures: list[OwnDisclosureOut]


class AccessOut(Body):
    """One read of the caller's EMR. ``hospital`` is where it was read, ``reader`` an enrolment id there."""

    at: datetime
    hospital: MspId
    reader: str
    role: str
    action: str = Field(description="read-shared-emr for another hospital's read, else the operation")
    purpose: str | None = Field(description="HL7 PurposeOfUse code, for another hospital's read")


class AccessesOut(Body):
    """Every read, the oldest first."""

    accesses: list[AccessOut]


class VisitCountOut(Body):
    provider: MspId
    visits: int
