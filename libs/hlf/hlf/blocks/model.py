"""Decoded blocks. Everything here is immutable; bytes are as they stand on the ledger."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from fabric_protos.peer import chaincode_pb2, proposal_pb2, transaction_pb2

from hlf.crypto import sha256
from hlf.errors import validation_name
from hlf.identity import Identity

VALID = 0
NOT_VALIDATED = 254
"""The validation code of a transaction in a block that no peer has validated, such as one from an orderer."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to where a chain was processed: the last block done, and its header's hash, to which the next must link."""

    block_number: int
    header_hash: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """A key that was read; `version` is (block, transaction) of the value seen, None if there was none."""

    namespace: str
    key: str
    version: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Write:
    """A public write. `value` is empty when `is_delete`."""

    namespace: str
    key: str
    value: bytes
    is_delete: bool


@dataclass(frozen=True, slots=True)
class MetadataWrite:
    """Metadata set on a key, such as its own endorsement policy (entry "VALIDATION_PARAMETER").

    In a collection (`collection` not "") the key is known by its SHA-256 only.
    """

    namespace: str
    collection: str
    key: str | bytes
    entries: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class CollectionWrite:
    """What the whole channel sees of a private write: SHA-256 of key and value (b"" when deleted)."""

    namespace: str
    collection: str
    key_hash: bytes
    value_hash: bytes
    is_delete: bool
    is_purge: bool

    def is_of(self, key: str) -> bool:
        return self.key_hash == sha256(key.encode())


@dataclass(frozen=True, slots=True)
class PrivateWrite:
    """A private write, which only members of the collection get. Its hashes were found in the same transaction.

    `value` is None when `is_delete`. A purge (`is_purge`) is a delete too.
    """

    namespace: str
    collection: str
    key: str
    value: bytes | None = field(repr=False)
    is_delete: bool
    is_purge: bool


@dataclass(frozen=True, slots=True)
class ChaincodeEvent:
    """Anyone whose endorsement suffices for some transaction can have it emit any event: derive no facts from it."""

    chaincode: str
    name: str
    payload: bytes


@dataclass(frozen=True)
class BlockTransaction:
    """One transaction in a block, valid or not: look at `is_valid` before believing its writes.

    `type` is a `common.HeaderType` (3: endorser transaction, 1: configuration), -1 for an envelope that cannot be
    read, which only an invalid transaction can have. `timestamp` is what its creator claimed, in UTC, cut to what a
    datetime can hold. `creator` signed the transaction, `endorsers` its result; their chains were the peer's to check.
    Writes keep the order of the ledger. `private_writes` holds those that the peer gave (kind "private").
    """

    index: int
    transaction_id: str
    type: int
    timestamp: datetime
    channel: str
    creator: Identity
    validation_code: int
    endorsers: tuple[Identity, ...] = ()
    chaincode: str = ""
    reads: tuple[Read, ...] = ()
    writes: tuple[Write, ...] = ()
    metadata_writes: tuple[MetadataWrite, ...] = ()
    collection_writes: tuple[CollectionWrite, ...] = ()
    private_writes: tuple[PrivateWrite, ...] = ()
    event: ChaincodeEvent | None = None
    response_status: int = 0
    response_payload: bytes = field(default=b"", repr=False)
    proposal_payload: bytes = field(default=b"", repr=False)

    @property
    def is_valid(self) -> bool:
        return self.validation_code == VALID

    @property
    def validation_name(self) -> str:
        return validation_name(self.validation_code)

    @property
    def args(self) -> tuple[bytes, ...]:
        """The function's name and its arguments; () for other types."""
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(self.proposal_payload)
        invocation = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input)
        return tuple(invocation.chaincode_spec.input.args)

    @property
    def missing_private_writes(self) -> tuple[CollectionWrite, ...]:
        """Writes to collections without their private part: not a member, purged since, or not yet reconciled."""
        given = {(write.namespace, write.collection, sha256(write.key.encode())) for write in self.private_writes}
        return tuple(
            write
            for write in self.collection_writes
            if (write.namespace, write.collection, write.key_hash) not in given
        )


@dataclass(frozen=True)
class Block:
    """`previous_hash` is b"" in block 0. `header_hash` is what the next block holds as its `previous_hash`."""

    number: int
    previous_hash: bytes
    data_hash: bytes
    header_hash: bytes
    transactions: tuple[BlockTransaction, ...]
    message: Any = field(repr=False, compare=False)
    """The `common.Block` this was decoded from."""

    @cached_property
    def raw(self) -> bytes:
        """The serialized `common.Block`, metadata included."""
        return bytes(self.message.SerializeToString())

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.number, self.header_hash)


@dataclass(frozen=True, slots=True)
class FilteredTransaction:
    transaction_id: str
    type: int
    validation_code: int
    event_names: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        return self.validation_code == int(transaction_pb2.VALID)

    @property
    def validation_name(self) -> str:
        return validation_name(self.validation_code)


@dataclass(frozen=True, slots=True)
class FilteredBlock:
    """Ids and outcomes only; it carries no hashes, so its chain cannot be checked."""

    number: int
    channel: str
    transactions: tuple[FilteredTransaction, ...]
