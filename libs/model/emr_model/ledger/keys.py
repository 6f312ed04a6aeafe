"""Where things stand on the ledger: the one place that builds and reads keys.

A :class:`Key` is a Fabric composite key before it is joined (``hlf.blocks.composite_key(*key)``). Everything in it is
public on the channel: opaque ids, MSP ids and numbers, never a name or an identifier of a person. Versions, revisions
and sharing numbers are padded with zeros to ten digits, so that a range comes back in their order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

NUMBER_DIGITS = 10
LARGEST_NUMBER = 10**NUMBER_DIGITS - 1


class ObjectType(StrEnum):
    """The first part of every key. The last three stand in implicit private collections, all others in public state."""

    ORGANIZATION = "org"
    EMR = "emr"
    EMR_OF = "emr-of"
    NOTE = "note"  # public: facts about the note; in the owner's collection: its sealed bytes
    NOTE_ID = "note-id"
    ACCESS = "access"
    END = "end"
    LIFE = "life"
    DISCLOSURE = "disclosure"
    DEMOGRAPHICS = "demographics"
    SNAPSHOT = "snapshot"


class Key(NamedTuple):
    object_type: str
    attributes: tuple[str, ...]


def organization(msp_id: str) -> Key:
    return Key(ObjectType.ORGANIZATION, (msp_id,))


def emr(emr_id: str) -> Key:
    return Key(ObjectType.EMR, (emr_id,))


def emr_of(owner_msp: str, patient_id: str) -> Key:
    """The index by patient: one EMR for a patient in a hospital."""
    return Key(ObjectType.EMR_OF, (owner_msp, patient_id))


def note(emr_id: str, version: int) -> Key:
    """Used twice: in public state and, for the sealed bytes, in the owner's implicit collection."""
    return Key(ObjectType.NOTE, (emr_id, padded(version)))


def note_id(emr_id: str, note_identifier: str) -> Key:
    """The index by noteId."""
    return Key(ObjectType.NOTE_ID, (emr_id, note_identifier))


def access(emr_id: str, recipient_msp: str) -> Key:
    return Key(ObjectType.ACCESS, (emr_id, recipient_msp))


def end(emr_id: str, recipient_msp: str) -> Key:
    """Stands under a key-level policy: the owner's peer alone endorses it."""
    return Key(ObjectType.END, (emr_id, recipient_msp))


def life(emr_id: str) -> Key:
    """Stands under a key-level policy: the owner's peer alone endorses it."""
    return Key(ObjectType.LIFE, (emr_id,))


def disclosure(emr_id: str, transaction_id: str) -> Key:
    return Key(ObjectType.DISCLOSURE, (emr_id, transaction_id))


def demographics(emr_id: str, revision: int) -> Key:
    """In the owner's implicit collection: the sealed demographics."""
    return Key(ObjectType.DEMOGRAPHICS, (emr_id, padded(revision)))


def snapshot(emr_id: str, sharing: int, version: int) -> Key:
    """In the recipient's implicit collection: the sealed snapshot."""
    return Key(ObjectType.SNAPSHOT, (emr_id, padded(sharing), padded(version)))


def implicit_collection(msp_id: str) -> str:
    """The private collection that Fabric gives every organization of a channel."""
    return f"_implicit_org_{msp_id}"


def organization_of_collection(collection: str) -> str:
    """The inverse of :func:`implicit_collection`. Raises ValueError for a collection that is no organization's."""
    msp_id = collection.removeprefix("_implicit_org_")
    if msp_id == collection or not msp_id:
        raise ValueError("not an implicit collection")
    return msp_id


def padded(number: int) -> str:
    if not 0 <= number <= LARGEST_NUMBER:
        raise ValueError("a number in a key has one to ten digits")
    return f"{number:0{NUMBER_DIGITS}d}"


def number(part: str) -> int:
    """The number that :func:`padded` wrote. Raises ValueError for anything else."""
    if len(part) != NUMBER_DIGITS or not (part.isascii() and part.isdigit()):
        raise ValueError("a number in a key is padded to ten digits")
    return int(part)
