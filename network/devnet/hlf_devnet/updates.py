"""What the valid transactions of one block change, while the block is judged and when it is committed."""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric_protos.common import common_pb2

from hlf_devnet.state import Row, Version, VersionedValue, hashed_key, row, state_key

PublicKey = tuple[str, str]
"""Namespace and key."""
HashedKey = tuple[str, str, bytes]
"""Namespace, collection and SHA-256 of the key."""


class Update(NamedTuple):
    """The new value of a key; `value` is None when it goes."""

    value: bytes | None
    metadata: bytes
    version: Version


class TableRows(NamedTuple):
    """`gone`: keys to delete, as parameters. `kept`: rows to write."""

    gone: list[tuple[bytes]]
    kept: list[Row]


@dataclass(slots=True)
class StateUpdates:
    """`purged`: hashed key → index of the last transaction that purged it. `history`: public writes in order, as
    (namespace, key, index of the transaction)."""

    public: dict[PublicKey, Update] = field(default_factory=dict)
    hashed: dict[HashedKey, Update] = field(default_factory=dict)
    purged: dict[HashedKey, int] = field(default_factory=dict)
    history: list[tuple[str, str, int]] = field(default_factory=list)
    _sorted_keys: dict[str, list[str]] = field(default_factory=dict)
    _public_rows: TableRows | None = None
    _hashed_rows: TableRows | None = None

    def public_rows(self) -> TableRows:
        """For the table of public values; computed once for all peers."""
        if self._public_rows is None:
            self._public_rows = _table_rows({state_key(*key): update for key, update in self.public.items()})
        return self._public_rows

    def hashed_rows(self) -> TableRows:
        if self._hashed_rows is None:
            self._hashed_rows = _table_rows({hashed_key(*key): update for key, update in self.hashed.items()})
        return self._hashed_rows

    def set_public(self, key: PublicKey, update: Update) -> None:
        if key not in self.public:
            insort(self._sorted_keys.setdefault(key[0], []), key[1])
        self.public[key] = update

    def range(self, namespace: str, start: str, end: str) -> Iterator[tuple[str, Update]]:
        """Updated keys from `start` (included) to `end` (not; empty: to the last), ascending."""
        keys = self._sorted_keys.get(namespace, [])
        stop = bisect_left(keys, end) if end else len(keys)
        for key in keys[bisect_left(keys, start) : stop]:
            yield key, self.public[namespace, key]

    def commit_hash(self, codes: bytes, previous: bytes) -> bytes:
        """The hash by which Fabric chains what blocks did (`kv_ledger.go` addBlockCommitHash)."""
        return hashlib.sha256(_varint(len(codes)) + codes + self._canonical_bytes() + previous).digest()

    def _canonical_bytes(self) -> bytes:
        """Every update sorted by namespace, collection and key; a name stands only where it changes
        (`update_batch_bytes.go`)."""
        rows = sorted(
            [(namespace, "", key.encode(), update) for (namespace, key), update in self.public.items()]
            + [(namespace, collection, key, update) for (namespace, collection, key), update in self.hashed.items()],
            key=lambda row: row[:3],
        )
        encoded, last = [], ("", "")
        for namespace, collection, key, update in rows:
            new_namespace = namespace if namespace != last[0] else ""
            new_collection = collection if (namespace, collection) != last else ""
            encoded.append(_field(1, _canonical_write(new_namespace, new_collection, key, update)))
            last = (namespace, collection)
        return b"".join(encoded)


def commit_hash_metadata(commit_hash: bytes) -> bytes:
    """As it stands in a block's metadata."""
    return bytes(common_pb2.Metadata(value=commit_hash).SerializeToString())


def commit_hash_of(metadata: bytes) -> bytes:
    return bytes(common_pb2.Metadata.FromString(metadata).value)


def _table_rows(updates: dict[bytes, Update]) -> TableRows:
    gone = [(key,) for key, update in updates.items() if update.value is None]
    kept = [
        row(key, VersionedValue(update.value, update.metadata, update.version))
        for key, update in updates.items()
        if update.value is not None
    ]
    return TableRows(gone, kept)


def _canonical_write(namespace: str, collection: str, key: bytes, update: Update) -> bytes:
    """`txmgr.KVWrite`, a message that Fabric keeps to itself: fields 1 to 6 in order, empty ones left out."""
    parts = [
        _field(1, namespace.encode()) if namespace else b"",
        _field(2, collection.encode()) if collection else b"",
        _field(3, key) if key else b"",
        b"\x20\x01" if update.value is None else b"",
        _field(5, update.value) if update.value else b"",
        _field(6, _ordered(update.version.block) + _ordered(update.version.transaction)),
    ]
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _ordered(number: int) -> bytes:
    """A length byte and the big-endian number without leading zeros."""
    size = (number.bit_length() + 7) // 8
    return bytes((size,)) + number.to_bytes(size, "big")
