"""Private values between endorsement and commit."""

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from hlf_devnet import rwset
from hlf_devnet.database import connect, empty_log, reading
from hlf_devnet.validated import ValidatedBlock

FILE_NAME = "transient.sqlite3"
SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    tx_id TEXT NOT NULL, height INTEGER NOT NULL, content BLOB NOT NULL, crc INTEGER NOT NULL,
    UNIQUE (tx_id, crc)
);
CREATE INDEX IF NOT EXISTS pending_height ON pending (height);
"""


class TransientStore:
    """Survives a killed process (not a power failure). Entries go when their transaction commits, or after
    `retention_blocks`."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, retention_blocks: int) -> None:
        self._connection = connection
        self._folder = folder
        self._retention_blocks = retention_blocks
        connection.executescript(SCHEMA)

    @classmethod
    def open(cls, folder: Path, retention_blocks: int = 20_000) -> Self:
        """LedgerCorrupt when the file is damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        with reading(folder, None):
            return cls(connect(folder / FILE_NAME, synchronous="NORMAL"), folder, retention_blocks)

    def persist(self, tx_id: str, height: int, private: bytes) -> None:
        """Keeps the bytes of a TxPvtReadWriteSet, endorsed when the ledger stood at `height`."""
        self._connection.execute(
            "INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?)", (tx_id, height, private, zlib.crc32(private))
        )

    def get(self, tx_id: str) -> list[bytes]:
        """Every distinct set persisted for that transaction, oldest first. A damaged one is as good as missing: what
        is committed is compared with the hashes in the block anyway."""
        query = "SELECT content FROM pending WHERE tx_id = ? ORDER BY rowid"
        with reading(self._folder, None):
            return [content for (content,) in self._connection.execute(query, (tx_id,))]

    def transactions(self) -> list[str]:
        """The ids of those that are pending."""
        with reading(self._folder, None):
            return [tx_id for (tx_id,) in self._connection.execute("SELECT DISTINCT tx_id FROM pending")]

    def forget(self, tx_ids: Sequence[str], height: int) -> None:
        """Removes those transactions, and whatever is older than the retention at `height`."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("DELETE FROM pending WHERE tx_id = ?", [(tx_id,) for tx_id in tx_ids])
        self._connection.execute("DELETE FROM pending WHERE height < ?", (height - self._retention_blocks,))
        self._connection.execute("COMMIT")

    def empty_log(self) -> None:
        """After a purge: what was forgotten is then nowhere in the folder."""
        empty_log(self._connection)

    def close(self) -> None:
        self._connection.close()


def gather_private_data(
    validated: ValidatedBlock, collection: str, stores: Iterable[TransientStore]
) -> Mapping[int, bytes]:
    """Transaction index → the private write set of `collection` in that block, from the first store that has it."""
    found: dict[int, bytes] = {}
    missing = {
        transaction.index: transaction.tx_id
        for transaction in validated.transactions
        if any(name == collection for _, name in transaction.private_hashes)
    }
    for store in stores:
        for index, tx_id in list(missing.items()):
            content = _private_data(validated.transactions[index].private_hashes, collection, store.get(tx_id))
            if content is not None:
                found[index] = content
                del missing[index]
    return found


def _private_data(
    hashes: Mapping[tuple[str, str], bytes], collection: str, candidates: Iterable[bytes]
) -> bytes | None:
    """The candidate that is the one endorsed: chaincode that answers differently leaves several."""
    wanted = {place: content for place, content in hashes.items() if place[1] == collection}
    for candidate in candidates:
        try:
            parts = [part for part in rwset.private_writes(candidate) if part[1] == collection]
        except rwset.RwsetError:
            continue
        if {(namespace, name): hashlib.sha256(content).digest() for namespace, name, content in parts} == wanted:
            return bytes(rwset.private_rwset(parts).SerializeToString())
    return None
