"""A snapshot: an EMR up to one version, as another hospital receives it.

zlib of canonical JSON ``{"demographics": {"revision", "salt", "content"}, "notes": [{"version", "noteId", "salt",
"content"}, …]}``; salt and content (canonical bytes) in base64, so that the recipient recomputes every commitment from
the bytes themselves.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emr_model.clinical.canonical import JsonObject, canonical_bytes, parse_object
from emr_model.clinical.errors import CanonicalJsonError, ContentTooLarge, SnapshotInvalid
from emr_model.clinical.limits import SNAPSHOT_MAX_BYTES
from emr_model.clinical.sealed_form import SALT_BYTES, inflate, verify


@dataclass(frozen=True, repr=False)
class SnapshotDemographics:
    """The patient's demographics at one revision: canonical bytes of a FHIR Patient."""

    revision: int
    salt: bytes
    content: bytes

    def verify(self, commitment: str) -> None:
        """Raises CommitmentMismatch."""
        verify(self.salt, self.content, commitment)


@dataclass(frozen=True, repr=False)
class SnapshotNote:
    """One note: canonical bytes of a FHIR Bundle."""

    version: int
    note_id: str
    salt: bytes
    content: bytes

    def verify(self, commitment: str) -> None:
        """Raises CommitmentMismatch."""
        verify(self.salt, self.content, commitment)


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Demographics and the notes 1 to ``version``, in that order."""

    demographics: SnapshotDemographics
    notes: tuple[SnapshotNote, ...]

    @property
    def version(self) -> int:
        return len(self.notes)


def build(demographics: SnapshotDemographics, notes: Iterable[SnapshotNote]) -> bytes:
    """The bytes that are sealed for a recipient.

    Raises SnapshotInvalid unless the notes are 1, 2, 3, …; ContentTooLarge above ``SNAPSHOT_MAX_BYTES`` uncompressed.
    """
    snapshot = Snapshot(demographics, tuple(notes))
    _refuse_gaps(snapshot)
    content = canonical_bytes(
        {
            "demographics": _demographics_json(snapshot.demographics),
            "notes": [_note_json(note) for note in snapshot.notes],
        }
    )
    if len(content) > SNAPSHOT_MAX_BYTES:
        raise ContentTooLarge(f"the snapshot is over {SNAPSHOT_MAX_BYTES} bytes")
    return zlib.compress(content, 9)


def open_snapshot(plaintext: bytes) -> Snapshot:
    """Reads opened bytes; the caller verifies each part against the ledger's commitments.

    Raises SnapshotInvalid, SealedFormInvalid or ContentTooLarge.
    """
    try:
        value = parse_object(inflate(plaintext, SNAPSHOT_MAX_BYTES))
        snapshot = Snapshot(_demographics(value["demographics"]), tuple(map(_note, _list(value["notes"]))))
    except (CanonicalJsonError, KeyError, TypeError, ValueError) as error:
        raise SnapshotInvalid("the snapshot does not have the form of its format") from error
    if value.keys() != {"demographics", "notes"}:
        raise SnapshotInvalid("the snapshot has parts that are not known")
    _refuse_gaps(snapshot)
    return snapshot


def _refuse_gaps(snapshot: Snapshot) -> None:
    if [note.version for note in snapshot.notes] != list(range(1, len(snapshot.notes) + 1)):
        raise SnapshotInvalid("the snapshot's notes are not 1, 2, 3 and so on")


def _demographics_json(part: SnapshotDemographics) -> JsonObject:
    return {"revision": part.revision, **_bytes_json(part.salt, part.content)}


def _note_json(part: SnapshotNote) -> JsonObject:
    return {"version": part.version, "noteId": part.note_id, **_bytes_json(part.salt, part.content)}


def _bytes_json(salt: bytes, content: bytes) -> JsonObject:
    return {"salt": base64.b64encode(salt).decode("ascii"), "content": base64.b64encode(content).decode("ascii")}


def _demographics(value: Any) -> SnapshotDemographics:
    return SnapshotDemographics(_integer(value["revision"]), _salt(value["salt"]), _bytes(value["content"]))


def _note(value: Any) -> SnapshotNote:
    note_id = value["noteId"]
    if not isinstance(note_id, str):
        raise TypeError("noteId")
    return SnapshotNote(_integer(value["version"]), note_id, _salt(value["salt"]), _bytes(value["content"]))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("a number is expected")
    return value


def _salt(value: Any) -> bytes:
    salt = _bytes(value)
    if len(salt) != SALT_BYTES:
        raise ValueError("salt")
    return salt


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("base64 text is expected")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("base64") from error
