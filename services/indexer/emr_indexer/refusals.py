"""Why something that stands on the ledger is not believed, or cannot be projected: the codes of dead letters."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """The first group is found by the relay, the others by the projector: the second leaves the write out, the third
    parks the EMR, the fourth is about no EMR and stops a partition.
    """

    KEY_UNKNOWN = "KEY_UNKNOWN"  # a public write under a key that the contract does not have
    FACT_DELETED = "FACT_DELETED"  # facts are for ever
    CONTENT_MISSING = "CONTENT_MISSING"  # a fact about content without a private write in its transaction
    CONTENT_MISMATCH = "CONTENT_MISMATCH"  # the private write is not the bytes of which the fact tells the sha256
    PRIVATE_WRITE_UNPAIRED = "PRIVATE_WRITE_UNPAIRED"  # a private write without its fact

    OWNER_DID_NOT_ENDORSE = "OWNER_DID_NOT_ENDORSE"
    BUILT_ON_UNENDORSED = "BUILT_ON_UNENDORSED"  # the owner endorsed it, on top of what it did not endorse
    OWNER_CHANGED = "OWNER_CHANGED"
    END_DECREASED = "END_DECREASED"
    LIFE_DECREASED = "LIFE_DECREASED"

    VALUE_MALFORMED = "VALUE_MALFORMED"  # not what the contract writes
    EMR_UNKNOWN = "EMR_UNKNOWN"  # a fact about an EMR whose creation was never seen
    CONTENT_UNREADABLE = "CONTENT_UNREADABLE"  # it does not open, or is not what its commitment was made for
    PROJECTION_FAILED = "PROJECTION_FAILED"  # a mistake of the projector's own

    MESSAGE_MALFORMED = "MESSAGE_MALFORMED"  # not what the relay writes
    EVENTS_MISSING = "EVENTS_MISSING"  # a block was left out


PARKING = (
    Refusal.VALUE_MALFORMED.value,
    Refusal.EMR_UNKNOWN.value,
    Refusal.CONTENT_UNREADABLE.value,
    Refusal.PROJECTION_FAILED.value,
)
