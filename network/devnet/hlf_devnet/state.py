"""The world state of one peer at one height: public values, hashes of private values, own private values."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, cast

from hlf_devnet.database import LedgerCorrupt, checksum, connect, reading

SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
    key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, metadata BLOB NOT NULL,
    block INTEGER NOT NULL, tx INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS hashed (
    key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, metadata BLOB NOT NULL,
    block INTEGER NOT NULL, tx INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS private (
    key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, metadata BLOB NOT NULL,
    block INTEGER NOT NULL, tx INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS history (
    key BLOB NOT NULL, block INTEGER NOT NULL, tx INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (key, block, tx)
) WITHOUT ROWID;
"""
REMEMBERED_ROWS = 4096
LARGE_VALUE_BYTES = 4096
_UNKNOWN = object()
VALUE_TABLES = ("state", "hashed", "private")


class Version(NamedTuple):
    """The transaction that wrote a value."""

    block: int
    transaction: int


class VersionedValue(NamedTuple):
    """`metadata`: serialized entries (`rwset.metadata_entries` decodes), empty when the key has none."""

    value: bytes
    metadata: bytes
    version: Version


class KeyModification(NamedTuple):
    """One committed write to a key, for its history. `timestamp` is `(seconds, nanos)` of the transaction's header."""

    tx_id: str
    value: bytes
    timestamp: tuple[int, int]
    is_delete: bool


Row = tuple[bytes, bytes, bytes, int, int, int]
"""Key, value, metadata, block, transaction, checksum."""
WriteLookup = Callable[[int, int, str, str], KeyModification]
"""(block, transaction, namespace, key) → the write, read from the block."""


def state_key(namespace: str, key: str) -> bytes:
    """A key of the tables. Namespaces hold no NUL, so that keys sort by namespace and then by their bytes."""
    return namespace.encode() + b"\0" + key.encode()


def hashed_key(namespace: str, collection: str, key_hash: bytes) -> bytes:
    return b"%s\0%s\0%s" % (namespace.encode(), collection.encode(), key_hash)


def private_key(namespace: str, collection: str, key: str) -> bytes:
    return hashed_key(namespace, collection, key.encode())


def row(key: bytes, value: VersionedValue) -> Row:
    """As the tables keep it."""
    block, transaction = value.version
    crc = checksum(key, value.value, value.metadata, block, transaction)
    return key, value.value, value.metadata, block, transaction, crc


class Snapshot:
    """What a peer knew at `height`; commits made meanwhile do not show. Close it, or use it as a context manager.

    Ranges: `start` is included, `end` is not; empty means the first or the last key. Keys come in byte order.
    """

    def __init__(self, view: "View") -> None:
        self._view = view
        self._closed = False
        self.height = view.height
        view.users += 1

    def get(self, namespace: str, key: str) -> VersionedValue | None:
        return self._view.get("state", state_key(namespace, key))

    def get_hash(self, namespace: str, collection: str, key_hash: bytes) -> VersionedValue | None:
        """`value` is the SHA-256 of the private value."""
        return self._view.get("hashed", hashed_key(namespace, collection, key_hash))

    def get_private(self, namespace: str, collection: str, key: str) -> VersionedValue | None:
        """None as well for what this peer never received."""
        return self._view.get("private", private_key(namespace, collection, key))

    def range(self, namespace: str, start: str, end: str) -> Iterator[tuple[str, VersionedValue]]:
        return self._view.range("state", namespace.encode(), start, end)

    def private_range(
        self, namespace: str, collection: str, start: str, end: str
    ) -> Iterator[tuple[str, VersionedValue]]:
        return self._view.range("private", b"%s\0%s" % (namespace.encode(), collection.encode()), start, end)

    def history(self, namespace: str, key: str) -> Iterator[KeyModification]:
        """Newest first."""
        return self._view.history(namespace, key)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._view.left()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class View:
    """An open read transaction, shared by the snapshots of one height."""

    def __init__(
        self, connection: sqlite3.Connection, folder: Path, writes: WriteLookup, on_idle: Callable[["View"], None]
    ) -> None:
        self.users = 0
        self._remembered: dict[tuple[str, bytes], VersionedValue | None] = {}
        self._connection = connection
        self._folder = folder
        self._writes = writes
        self._on_idle = on_idle
        with reading(folder, None):
            connection.execute("BEGIN")
            (self.height,) = connection.execute("SELECT coalesce(max(number) + 1, 0) FROM block").fetchone()

    def left(self) -> None:
        self.users -= 1
        if self.users == 0:
            self._on_idle(self)

    def end(self) -> sqlite3.Connection:
        """Ends the transaction and gives the connection back."""
        self._connection.execute("ROLLBACK")
        return self._connection

    def get(self, table: str, key: bytes) -> VersionedValue | None:
        """Remembered: what many transactions of one height read, such as a chaincode's definition, is read once."""
        remembered = self._remembered.get((table, key), _UNKNOWN)
        if remembered is not _UNKNOWN:
            return cast(VersionedValue | None, remembered)
        found = self._found(table, key)
        if len(self._remembered) < REMEMBERED_ROWS and (found is None or len(found.value) < LARGE_VALUE_BYTES):
            self._remembered[table, key] = found
        return found

    def _found(self, table: str, key: bytes) -> VersionedValue | None:
        query = f"SELECT key, value, metadata, block, tx, crc FROM {table} WHERE key = ?"  # noqa: S608
        with reading(self._folder, self.height - 1):
            found = self._connection.execute(query, (key,)).fetchone()
        return None if found is None else verified_row(self._folder, found)[1]

    def range(self, table: str, prefix: bytes, start: str, end: str) -> Iterator[tuple[str, VersionedValue]]:
        query = f"SELECT key, value, metadata, block, tx, crc FROM {table} WHERE key >= ? AND key < ? ORDER BY key"  # noqa: S608
        first = prefix + b"\0" + start.encode()
        last = prefix + b"\0" + end.encode() if end else prefix + b"\1"
        with reading(self._folder, self.height - 1):
            for found in self._connection.execute(query, (first, last)):
                key, value = verified_row(self._folder, found)
                yield key[len(prefix) + 1 :].decode(), value

    def history(self, namespace: str, key: str) -> Iterator[KeyModification]:
        query = "SELECT key, block, tx, crc FROM history WHERE key = ? ORDER BY block DESC, tx DESC"
        with reading(self._folder, self.height - 1):
            for found in self._connection.execute(query, (state_key(namespace, key),)):
                block, transaction = verified_history(self._folder, found)
                yield self._writes(block, transaction, namespace, key)


class Views:
    """Hands out snapshots of the newest committed height, one read transaction a height."""

    def __init__(self, path: Path, writes: WriteLookup) -> None:
        self._path = path
        self._writes = writes
        self._newest: View | None = None
        self._idle: list[sqlite3.Connection] = []

    def snapshot(self, height: int) -> Snapshot:
        """Of at least `height`."""
        if self._newest is None or self._newest.height < height:
            connection = self._idle.pop() if self._idle else connect(self._path)
            self._newest = View(connection, self._path.parent, self._writes, self._release)
        return Snapshot(self._newest)

    def close(self) -> None:
        """Snapshots still open end with their connection."""
        if self._newest is not None:
            self._newest.end().close()
        self._newest = None
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _release(self, view: View) -> None:
        """A read transaction that nobody uses must end, or the log could never be emptied."""
        if view is self._newest:
            self._newest = None
        self._idle.append(view.end())


def verified_row(folder: Path, found: tuple[bytes, bytes, bytes, int, int, int]) -> tuple[bytes, VersionedValue]:
    """LedgerCorrupt when a row of the tables is not what was written."""
    key, value, metadata, block, transaction, crc = found
    try:
        intact = checksum(key, value, metadata, block, transaction) == crc
    except TypeError:
        intact = False
    if not intact:
        raise LedgerCorrupt(folder, block if isinstance(block, int) else None, "a value that it wrote was changed")
    return key, VersionedValue(value, metadata, Version(block, transaction))


def verified_history(folder: Path, found: tuple[bytes, int, int, int]) -> tuple[int, int]:
    key, block, transaction, crc = found
    if checksum(key, block, transaction) != crc:
        raise LedgerCorrupt(folder, block, "its entry in a key's history was changed")
    return block, transaction
