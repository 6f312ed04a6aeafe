"""From a block to messages: one event a fact, one dead letter for each thing that is not believed, one mark."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from emr_model.ledger import keys
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import FACTS, BlockMark, DeadLetter, LedgerEvent
from emr_model.ledger.keys import Key, ObjectType
from hlf.blocks import Block, BlockTransaction, CollectionWrite, Write, split_composite_key

from emr_indexer.refusals import Refusal
from emr_indexer.relay.pairing import content_of, pair, stored

INDEXES = frozenset({ObjectType.EMR_OF, ObjectType.NOTE_ID})
"""Public objects that say nothing which the facts do not."""


@dataclass(frozen=True)
class BlockFacts:
    """``missing_contents`` counts private writes of the hospital's own that its peer does not hold (yet)."""

    events: tuple[LedgerEvent, ...]
    dead_letters: tuple[DeadLetter, ...]
    mark: BlockMark
    missing_contents: int

    @property
    def messages(self) -> tuple[LedgerEvent | BlockMark, ...]:
        """What goes to the topic of events, in order."""
        return (*self.events, self.mark)


class BlockReader:
    """Reads blocks for one hospital. Only valid transactions' public writes of ``namespace`` become events."""

    def __init__(self, channel: str, namespace: str, msp_id: str) -> None:
        self._channel = channel
        self._namespace = namespace
        self._own_collection = keys.implicit_collection(msp_id)

    def read(self, block: Block) -> BlockFacts:
        readings = [self._read_transaction(block, each) for each in block.transactions if each.is_valid]
        return BlockFacts(
            events=tuple(event for reading in readings for event in reading.events),
            dead_letters=tuple(letter for reading in readings for letter in reading.dead_letters),
            mark=self._mark(block),
            missing_contents=sum(reading.missing_contents for reading in readings),
        )

    def _mark(self, block: Block) -> BlockMark:
        at = block.transactions[-1].timestamp
        return BlockMark(self._channel, block.number, block.header_hash.hex(), at, len(block.transactions))

    def _read_transaction(self, block: Block, transaction: BlockTransaction) -> _TransactionReading:
        reading = _TransactionReading(self._channel, self._namespace, self._own_collection, block.number, transaction)
        reading.run()
        return reading


class _TransactionReading:
    """The facts of one valid transaction."""

    def __init__(
        self, channel: str, namespace: str, own_collection: str, block: int, transaction: BlockTransaction
    ) -> None:
        self.events: list[LedgerEvent] = []
        self.dead_letters: list[DeadLetter] = []
        self.missing_contents = 0
        self._channel = channel
        self._namespace = namespace
        self._own_collection = own_collection
        self._block = block
        self._transaction = transaction
        self._paired: set[CollectionWrite] = set()

    def run(self) -> None:
        for position, write in enumerate(self._transaction.writes):
            if write.namespace == self._namespace:
                self._read_write(position, write)
        for position, private in enumerate(stored(self._transaction, self._namespace), len(self._transaction.writes)):
            if private not in self._paired:
                self._refuse(position, Refusal.PRIVATE_WRITE_UNPAIRED, "private", None)

    def _read_write(self, position: int, write: Write) -> None:
        key = _contract_key(write.key)
        if key is None:
            self._refuse(position, Refusal.KEY_UNKNOWN, "unknown", None)
        elif key.object_type not in INDEXES:
            emr_id = None if key.object_type == ObjectType.ORGANIZATION else key.attributes[0]
            if write.is_delete:
                self._refuse(position, Refusal.FACT_DELETED, key.object_type, emr_id)
                return
            sealed = self._sealed(position, key, write.value)
            self.events.append(self._event(position, key, write.value, sealed))

    def _sealed(self, position: int, key: Key, value: bytes) -> bytes | None:
        """The private bytes that came with the fact, if they are its own and the hospital's peer holds them."""
        try:
            fact = FACTS[ObjectType(key.object_type)].from_json(value)
            content = content_of(key, fact)
        except ValueMalformed:
            return None  # the projector stops at it
        if content is None:
            return None
        paired = pair(self._transaction, self._namespace, key, content, fact)
        if paired.write is None:
            assert paired.refusal is not None
            self._refuse(position, paired.refusal, key.object_type, key.attributes[0])
            return None
        self._paired.add(paired.write)
        is_own = paired.write.collection == self._own_collection and key.object_type != ObjectType.ACCESS
        return self._private_bytes(paired.write) if is_own else None

    def _private_bytes(self, paired: CollectionWrite) -> bytes | None:
        for write in self._transaction.private_writes:
            same_place = (write.namespace, write.collection) == (paired.namespace, paired.collection)
            if same_place and paired.is_of(write.key):
                return write.value
        self.missing_contents += 1
        return None

    def _event(self, position: int, key: Key, value: bytes, sealed: bytes | None) -> LedgerEvent:
        transaction = self._transaction
        return LedgerEvent(
            channel=self._channel,
            block=self._block,
            tx=transaction.index,
            write=position,
            transaction_id=transaction.transaction_id,
            at=transaction.timestamp,
            object_type=ObjectType(key.object_type),
            attributes=key.attributes,
            value=value.decode(errors="replace"),
            sealed=None if sealed is None else base64.b64encode(sealed).decode(),
            creator_msp=transaction.creator.msp_id,
            creator_id=transaction.creator.common_name,
            endorsers=tuple(sorted({endorser.msp_id for endorser in transaction.endorsers})),
        )

    def _refuse(self, position: int, code: Refusal, object_type: str, emr_id: str | None) -> None:
        transaction = self._transaction
        letter = DeadLetter(
            channel=self._channel,
            block=self._block,
            tx=transaction.index,
            write=position,
            transaction_id=transaction.transaction_id,
            at=transaction.timestamp,
            object_type=object_type,
            emr_id=emr_id,
            code=code,
        )
        self.dead_letters.append(letter)


_ATTRIBUTES = {
    ObjectType.ORGANIZATION: 1,
    ObjectType.EMR: 1,
    ObjectType.EMR_OF: 2,
    ObjectType.NOTE: 2,
    ObjectType.NOTE_ID: 2,
    ObjectType.ACCESS: 2,
    ObjectType.END: 2,
    ObjectType.LIFE: 1,
    ObjectType.DISCLOSURE: 2,
}


def _contract_key(written: str) -> Key | None:
    """The key as the contract made it; None for one that it did not make."""
    try:
        object_type, attributes = split_composite_key(written)
        kind = ObjectType(object_type)
    except ValueError:
        return None
    if _ATTRIBUTES.get(kind) != len(attributes) or not all(attributes):
        return None
    if kind is ObjectType.NOTE and not _is_number(attributes[1]):
        return None
    return Key(kind, attributes)


def _is_number(part: str) -> bool:
    try:
        keys.number(part)
    except ValueError:
        return False
    return True
