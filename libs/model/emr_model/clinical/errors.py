"""What can be wrong with clinical content: one class per failing step. No message carries content or identifiers."""

from __future__ import annotations


class ClinicalError(Exception):
    """Clinical content that is refused. The text is safe to log and to answer with."""


class CanonicalJsonError(ClinicalError):
    """The bytes are not JSON of the strict kind, or the value has no canonical form."""


class BundleMalformed(ClinicalError):
    """The JSON is not a FHIR Bundle from which entries can be read: nothing of it is taken."""


class NoteInvalid(ClinicalError):
    """A typed note or an amendment does not make a note."""


class DemographicsInvalid(ClinicalError):
    """The Patient is missing, doubled, too large, or does not validate."""


class IdentifierMissing(ClinicalError):
    """The Patient has no identifier of a system by which the hospital recognizes people."""


class ContentTooLarge(ClinicalError):
    """The content is over its limit, before or after inflating."""


class SealedFormInvalid(ClinicalError):
    """Opened bytes are not in a form that this version knows."""


class CommitmentMismatch(ClinicalError):
    """Opened bytes are not the ones that the ledger's commitment was made for."""


class SnapshotInvalid(ClinicalError):
    """An opened snapshot does not have the form that its format promises."""
