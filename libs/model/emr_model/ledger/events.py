"""What the relay says on Kafka: one event for each fact that a valid transaction wrote, and a mark after each block.

All events about one EMR are in one partition, in the order of the ledger; repetitions are possible and carry the same
id. A mark of block N in a partition says that every event of that partition up to block N stands before it. Events
carry what is public on the channel and, for content of the hospital's own EMRs, the sealed bytes: never anything in
the clear, never a snapshot.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from emr_model.ledger.codec import JsonValue, ValueMalformed, parse
from emr_model.ledger.keys import Key, ObjectType
from emr_model.ledger.values import Access, Disclosure, Emr, End, LifeState, Note, Organization

PARTITIONS = 6
RETENTION_DAYS = 7
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""A note of the largest size, sealed and in base64, fits many times."""

Fact = Organization | Emr | Note | Access | End | LifeState | Disclosure

FACTS: dict[ObjectType, type[Fact]] = {
    ObjectType.ORGANIZATION: Organization,
    ObjectType.EMR: Emr,
    ObjectType.NOTE: Note,
    ObjectType.ACCESS: Access,
    ObjectType.END: End,
    ObjectType.LIFE: LifeState,
    ObjectType.DISCLOSURE: Disclosure,
}
"""Objects whose writes become events. The others are indexes: they say nothing that these do not."""


@dataclass(frozen=True)
class TopicSettings:
    """``configuration`` is what Kafka is told when the topic is made."""

    partitions: int
    configuration: Mapping[str, str]


@dataclass(frozen=True)
class Topics:
    """The topics of a hospital. They must exist before a faust worker starts: it ignores for ever what is missing."""

    prefix: str
    partitions: int = PARTITIONS

    @property
    def events(self) -> str:
        return f"{self.prefix}.ledger.events"

    @property
    def blocks(self) -> str:
        """One mark a block, written once every event and mark of the block is acknowledged: where a relay resumes."""
        return f"{self.prefix}.ledger.blocks"

    @property
    def dead_letters(self) -> str:
        """What the ledger says and the relay does not believe."""
        return f"{self.prefix}.ledger.dead-letters"

    @property
    def settings(self) -> dict[str, TopicSettings]:
        """By name. The topic of blocks keeps its last record for ever, however long the ledger is quiet."""
        kept = {
            "retention.ms": str(RETENTION_DAYS * 24 * 3600 * 1000),
            "max.message.bytes": str(MAX_RECORD_BYTES),
        }
        return {
            self.events: TopicSettings(self.partitions, kept),
            self.blocks: TopicSettings(1, {"cleanup.policy": "compact"}),
            self.dead_letters: TopicSettings(1, kept),
        }


@dataclass(frozen=True)
class LedgerEvent(JsonValue):
    """A fact. ``at`` is the transaction's time, ``value`` the public value's JSON text as it stands on the ledger.

    ``tx`` and ``write`` count from 0 within block and transaction. ``sealed`` is base64 of the private bytes that the
    transaction wrote along with the fact, verified against the fact's sha256; None when the fact has none, is another
    hospital's, or the bytes were missing or wrong.
    """

    channel: str
    block: int
    tx: int
    write: int
    transaction_id: str
    at: datetime
    object_type: ObjectType
    attributes: tuple[str, ...]
    value: str
    sealed: str | None
    creator_msp: str
    creator_id: str
    endorsers: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.channel}/{self.block}/{self.tx}/{self.write}"

    @property
    def position(self) -> tuple[int, int, int]:
        """Orders events of one channel."""
        return (self.block, self.tx, self.write)

    @property
    def key(self) -> Key:
        return Key(self.object_type, self.attributes)

    @property
    def subject(self) -> str:
        """What the event is about and is ordered by: the EMR's id, or ``org:`` and the hospital's MSP id."""
        return f"org:{self.attributes[0]}" if self.object_type is ObjectType.ORGANIZATION else self.attributes[0]

    @property
    def emr_id(self) -> str | None:
        return None if self.object_type is ObjectType.ORGANIZATION else self.attributes[0]

    @property
    def sealed_bytes(self) -> bytes | None:
        return None if self.sealed is None else base64.b64decode(self.sealed, validate=True)

    @cached_property
    def fact(self) -> Fact:
        """Raises ValueMalformed for a value that the contract cannot have written."""
        return FACTS[self.object_type].from_json(self.value)


@dataclass(frozen=True)
class BlockMark(JsonValue):
    """``at`` is the time of the block's last transaction, ``header_hash`` hex."""

    channel: str
    block: int
    header_hash: str
    at: datetime
    transactions: int


@dataclass(frozen=True)
class DeadLetter(JsonValue):
    """``code`` says why the write was refused. Ids only: what was written stays on the ledger, in its block."""

    channel: str
    block: int
    tx: int
    write: int
    transaction_id: str
    at: datetime
    object_type: str
    emr_id: str | None
    code: str

    @property
    def id(self) -> str:
        return f"{self.channel}/{self.block}/{self.tx}/{self.write}"


Message = LedgerEvent | BlockMark | DeadLetter

_KINDS: dict[str, type[Message]] = {"event": LedgerEvent, "mark": BlockMark, "deadLetter": DeadLetter}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(message: Message) -> bytes:
    """A Kafka record's value: ``{"event": {…}}``, ``{"mark": {…}}`` or ``{"deadLetter": {…}}``."""
    name = _NAMES[type(message)].encode()
    return b'{"' + name + b'":' + message.to_json() + b"}"


def decode(value: bytes) -> Message:
    """Raises ValueMalformed."""
    record = parse(value)
    if not isinstance(record, dict) or len(record) != 1:
        raise ValueMalformed("not a message of the relay")
    ((name, content),) = record.items()
    if name not in _KINDS:
        raise ValueMalformed("not a message of the relay")
    return _KINDS[name].from_wire(content)


def partition_of(subject: str, partitions: int = PARTITIONS) -> int:
    """The partition of the topic of events in which everything about a subject stands."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4]) % partitions
