"""Private values of a peer's own collection: the newest ones, and those of each block until they are purged."""

import hashlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from google.protobuf.message import DecodeError

from hlf_devnet import rwset, state
from hlf_devnet.database import LedgerCorrupt, checksum
from hlf_devnet.state import Version, VersionedValue
from hlf_devnet.updates import HashedKey, StateUpdates
from hlf_devnet.validated import ValidatedBlock

SCHEMA = """
CREATE TABLE IF NOT EXISTS private_data (
    block INTEGER NOT NULL, tx INTEGER NOT NULL, namespace TEXT NOT NULL, collection TEXT NOT NULL,
    content BLOB NOT NULL, crc INTEGER NOT NULL,
    UNIQUE (block, tx, namespace, collection)
);
CREATE TABLE IF NOT EXISTS private_write (
    key BLOB NOT NULL, block INTEGER NOT NULL, tx INTEGER NOT NULL, name TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (key, block, tx)
) WITHOUT ROWID;
"""

_log = logging.getLogger(__name__)

PrivateKey = tuple[str, str, str]
"""Namespace, collection and key."""


def apply(
    connection: sqlite3.Connection,
    folder: Path,
    collection: str,
    validated: ValidatedBlock,
    private_data: Mapping[int, bytes],
) -> None:
    """Stores what a block's transactions wrote into `collection`, and removes what they purged. Within the caller's
    transaction."""
    batch = _Batch(connection, folder, validated)
    for transaction in validated.transactions:
        if transaction.index in private_data and transaction.private_hashes:
            for namespace, name, written in batch.parts(private_data[transaction.index]):
                if name == collection and batch.is_genuine(transaction.private_hashes, namespace, name, written):
                    batch.add(transaction.index, namespace, name, written)
    batch.follow_metadata_versions()
    batch.write()


def of_block(connection: sqlite3.Connection, folder: Path, number: int) -> dict[int, Any]:
    """Transaction index → `rwset.TxPvtReadWriteSet`."""
    query = (
        "SELECT block, tx, namespace, collection, content, crc FROM private_data WHERE block = ?"
        " ORDER BY tx, namespace, collection"
    )
    parts: dict[int, list[tuple[str, str, bytes]]] = {}
    for found in connection.execute(query, (number,)):
        _, tx, namespace, collection, content = verified(folder, found)
        parts.setdefault(tx, []).append((namespace, collection, content))
    return {tx: rwset.private_rwset(contents) for tx, contents in parts.items()}


def verified(folder: Path, found: tuple[int, int, str, str, bytes, int]) -> tuple[int, int, str, str, bytes]:
    block, tx, namespace, collection, content, crc = found
    if _checksum(block, tx, namespace, collection, content) != crc:
        raise LedgerCorrupt(folder, block, "a private write set of it was changed")
    return block, tx, namespace, collection, content


def verified_write(folder: Path, found: tuple[bytes, int, int, str, int]) -> tuple[int, int, str]:
    key, block, tx, name, crc = found
    if checksum(key, block, tx, name.encode()) != crc:
        raise LedgerCorrupt(folder, block, "its entry in the index of private writes was changed")
    return block, tx, name


class _Batch:
    """What one block does to the private values."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, validated: ValidatedBlock) -> None:
        self._connection = connection
        self._folder = folder
        self._number = validated.number
        self._updates: StateUpdates = validated.updates
        self._values: dict[PrivateKey, VersionedValue | None] = {}
        self._names: dict[HashedKey, str] = {}
        self._metadata_keys: set[PrivateKey] = set()

    def parts(self, content: bytes) -> list[tuple[str, str, bytes]]:
        try:
            return rwset.private_writes(content)
        except rwset.RwsetError:
            _log.warning("%s: private data of block %d is malformed", self._folder, self._number)
            return []

    def is_genuine(
        self, hashes: Mapping[tuple[str, str], bytes], namespace: str, collection: str, written: bytes
    ) -> bool:
        genuine = hashlib.sha256(written).digest() == hashes.get((namespace, collection))
        if not genuine:
            _log.warning("%s: private data of block %d does not match its hash", self._folder, self._number)
        return genuine

    def add(self, tx: int, namespace: str, collection: str, written: bytes) -> None:
        try:
            message = kv_rwset_pb2.KVRWSet.FromString(written)
        except DecodeError:
            _log.warning("%s: private data of block %d is malformed", self._folder, self._number)
            return
        for write in message.writes:
            value = None if rwset.deletes(write) else VersionedValue(write.value, b"", Version(self._number, tx))
            self._values[namespace, collection, write.key] = value
            self._names[namespace, collection, rwset.key_hash(write.key)] = write.key
        self._metadata_keys.update((namespace, collection, write.key) for write in message.metadata_writes)
        kept = [write for write in message.writes if not self._is_purged(namespace, collection, write.key, tx)]
        content = written if len(kept) == len(message.writes) else _with_writes(message, kept)
        self._insert(self._number, tx, namespace, collection, content)
        self._index(tx, namespace, collection, [write.key for write in kept])

    def follow_metadata_versions(self) -> None:
        """A transaction that only changes a key's metadata moves the version of its hash: the value follows, if it is
        the one that the hash means."""
        for namespace, collection, key in self._metadata_keys:
            update = self._updates.hashed.get((namespace, collection, rwset.key_hash(key)))
            value = self._latest(namespace, collection, key)
            if update is None or update.value is None or value is None or value.version == update.version:
                continue
            if hashlib.sha256(value.value).digest() == update.value:
                self._values[namespace, collection, key] = VersionedValue(value.value, b"", update.version)

    def write(self) -> None:
        for key, tx in self._updates.purged.items():
            self._purge(key, tx)
        gone = [(state.private_key(*key),) for key, value in self._values.items() if value is None]
        kept = [state.row(state.private_key(*key), value) for key, value in self._values.items() if value is not None]
        self._connection.executemany("DELETE FROM private WHERE key = ?", gone)
        self._connection.executemany("INSERT OR REPLACE INTO private VALUES (?, ?, ?, ?, ?, ?)", kept)

    def _purge(self, key: HashedKey, tx: int) -> None:
        """Removes a value and what earlier blocks kept of it, up to the purging transaction itself."""
        namespace, collection, key_hash = key
        indexed = state.hashed_key(namespace, collection, key_hash)
        names = {name for name in [self._names.get(key)] if name is not None}
        for block, index, name in self._earlier_writes(indexed, tx):
            self._strike(block, index, namespace, collection, name)
            names.add(name)
        for name in names:
            newest = self._latest(namespace, collection, name)
            if newest is not None and newest.version <= (self._number, tx):
                self._values[namespace, collection, name] = None
        self._connection.execute(
            "DELETE FROM private_write WHERE key = ? AND (block, tx) <= (?, ?)", (indexed, self._number, tx)
        )

    def _earlier_writes(self, indexed: bytes, tx: int) -> Iterator[tuple[int, int, str]]:
        query = "SELECT key, block, tx, name, crc FROM private_write WHERE key = ? AND (block, tx) <= (?, ?)"
        for found in self._connection.execute(query, (indexed, self._number, tx)).fetchall():
            yield verified_write(self._folder, found)

    def _strike(self, block: int, tx: int, namespace: str, collection: str, key: str) -> None:
        """Takes the writes to `key` out of a stored write set."""
        query = (
            "SELECT block, tx, namespace, collection, content, crc FROM private_data"
            " WHERE block = ? AND tx = ? AND namespace = ? AND collection = ?"
        )
        found = self._connection.execute(query, (block, tx, namespace, collection)).fetchone()
        if found is not None:
            message = kv_rwset_pb2.KVRWSet.FromString(verified(self._folder, found)[4])
            kept = [write for write in message.writes if write.key != key]
            self._insert(block, tx, namespace, collection, _with_writes(message, kept))

    def _insert(self, block: int, tx: int, namespace: str, collection: str, content: bytes) -> None:
        crc = _checksum(block, tx, namespace, collection, content)
        self._connection.execute(
            "INSERT OR REPLACE INTO private_data VALUES (?, ?, ?, ?, ?, ?)",
            (block, tx, namespace, collection, content, crc),
        )

    def _index(self, tx: int, namespace: str, collection: str, keys: list[str]) -> None:
        hashed = [(state.hashed_key(namespace, collection, rwset.key_hash(key)), key) for key in keys]
        rows = [(key, self._number, tx, name, checksum(key, self._number, tx, name.encode())) for key, name in hashed]
        self._connection.executemany("INSERT OR IGNORE INTO private_write VALUES (?, ?, ?, ?, ?)", rows)

    def _is_purged(self, namespace: str, collection: str, key: str, tx: int) -> bool:
        return tx <= self._updates.purged.get((namespace, collection, rwset.key_hash(key)), -1)

    def _latest(self, namespace: str, collection: str, key: str) -> VersionedValue | None:
        known = (namespace, collection, key)
        if known in self._values:
            return self._values[known]
        query = "SELECT key, value, metadata, block, tx, crc FROM private WHERE key = ?"
        found = self._connection.execute(query, (state.private_key(*known),)).fetchone()
        return None if found is None else state.verified_row(self._folder, found)[1]


def _with_writes(message: Any, writes: list[Any]) -> bytes:
    return bytes(kv_rwset_pb2.KVRWSet(writes=writes, metadata_writes=message.metadata_writes).SerializeToString())


def _checksum(block: int, tx: int, namespace: str, collection: str, content: bytes) -> int:
    return checksum(block, tx, namespace.encode(), collection.encode(), content)
