"""Whether a transaction's private writes are those that its public facts tell of.

The channel sees of each private write the hash of its key and of its value, so this is decided for every hospital's
content, held here or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emr_model.ledger import keys
from emr_model.ledger.events import Fact
from emr_model.ledger.keys import Key, ObjectType
from emr_model.ledger.values import Access, Emr, Event, Note
from hlf.blocks import BlockTransaction, CollectionWrite, composite_key

from emr_indexer.refusals import Refusal


@dataclass(frozen=True)
class Content:
    """What a fact says of the private bytes that came with it."""

    key: Key
    sha256: str


@dataclass(frozen=True)
class Paired:
    """``write`` is the private write that a fact tells of; ``refusal`` says why there is none to believe."""

    write: CollectionWrite | None
    refusal: Refusal | None


def content_of(key: Key, fact: Fact) -> Content | None:
    """The private write that must stand in the same transaction as the fact; None if the fact has none."""
    match fact:
        case Note():
            emr_id, version = key.attributes
            return Content(keys.note(emr_id, keys.number(version)), fact.sha256)
        case Emr(event=Event.EMR_CREATED | Event.DEMOGRAPHICS_UPDATED):
            return Content(keys.demographics(key.attributes[0], fact.demographics_revision), fact.sha256)
        case Access(event=Event.SNAPSHOT_SHARED, snapshot=snapshot) if snapshot is not None:
            return Content(keys.snapshot(key.attributes[0], fact.number, snapshot.version), snapshot.sha256)
    return None


def pair(transaction: BlockTransaction, namespace: str, key: Key, content: Content, fact: Fact) -> Paired:
    """Finds the private write of a fact, in the only collection where it may stand where the fact says that one."""
    wanted = composite_key(*content.key)
    for write in stored(transaction, namespace):
        if write.is_of(wanted) and _is_place(write.collection, key, fact):
            matches = write.value_hash.hex() == content.sha256
            return Paired(write, None) if matches else Paired(None, Refusal.CONTENT_MISMATCH)
    return Paired(None, Refusal.CONTENT_MISSING)


def _is_place(collection: str, key: Key, fact: Fact) -> bool:
    """Demographics belong to the owner, a snapshot to the recipient; a note does not name its owner."""
    match fact:
        case Emr():
            return collection == keys.implicit_collection(fact.owner)
        case Access():
            return collection == keys.implicit_collection(key.attributes[1])
    return key.object_type == ObjectType.NOTE


def stored(transaction: BlockTransaction, namespace: str) -> Iterator[CollectionWrite]:
    """Private writes that put something; deletes and purges need no fact."""
    return (write for write in transaction.collection_writes if write.namespace == namespace and not write.is_delete)
