"""One organization's copy of the channel: blocks, state, history and private data in one SQLite file."""

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.peer import transaction_pb2
from hlf.channel_config import IMPLICIT_PREFIX, config_of, implicit_collections, last_config_number

from hlf_devnet import envelopes, ledger_check, private_store, state
from hlf_devnet.blockstore import BlockStore
from hlf_devnet.database import (
    LedgerCorrupt,
    LedgerUnwritable,
    check_structure,
    checksum,
    connect,
    empty_log,
    log_is_long,
    reading,
    writing,
)
from hlf_devnet.state import KeyModification, Snapshot, Views
from hlf_devnet.updates import StateUpdates, TableRows, commit_hash_of
from hlf_devnet.validated import ValidatedBlock

__all__ = ["LedgerCorrupt", "LedgerUnwritable", "PeerLedger"]

FILE_NAME = "ledger.sqlite3"
SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tx (
    id TEXT PRIMARY KEY, block INTEGER NOT NULL, position INTEGER NOT NULL, code INTEGER NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
"""


class PeerLedger:
    """Everything of a block is written in one transaction and synced to disk, or not at all.

    Reads and `snapshot` belong to one thread (that of the event loop); so do `stage` and `staged_is_committed`.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, msp_id: str, channel: str) -> None:
        self.msp_id = msp_id
        self.channel = channel
        self.folder = folder
        self.collection = IMPLICIT_PREFIX + msp_id
        self._connection = connection
        with reading(folder, None):
            connection.executescript(f"BEGIN;{SCHEMA}{state.SCHEMA}{private_store.SCHEMA}COMMIT;")
        self._reader = connect(folder / FILE_NAME)
        self._blocks = BlockStore(connection, folder)
        self._read_blocks = BlockStore(self._reader, folder)
        self._views = Views(folder / FILE_NAME, self._write_in_block)
        self._staged: ValidatedBlock | None = None
        self._log_is_due = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.commit_hash = b""
        self.config: Any = None
        """The `common.Config` of the newest configuration block; None before the first block."""
        self.config_number = 0
        """The number of that block."""
        self.collections: frozenset[str] = frozenset()
        """The names of all implicit collections of the channel."""
        self.definitions: dict[str, object | None] = {}
        """What `lifecycle` remembers; empty after a block that changed a chaincode's definition."""

    @classmethod
    def open(cls, folder: Path, msp_id: str, channel: str) -> Self:
        """Opens or creates. LedgerCorrupt when a stored block is torn or changed, or belongs to another channel."""
        folder.mkdir(parents=True, exist_ok=True)
        with reading(folder, None):
            ledger = cls(connect(folder / FILE_NAME, cache_kib=8192), folder, msp_id, channel)
        try:
            ledger._check()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @property
    def height(self) -> int:
        """Number of blocks."""
        return self._read_blocks.height

    async def wait_for_height(self, height: int) -> None:
        """Returns once `height` blocks are committed."""
        if self.height < height:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((height, waiter))
            await waiter

    @property
    def last_hash(self) -> bytes:
        """The header hash of the newest block; empty when there is none."""
        return self._read_blocks.last_hash

    def chain_info(self) -> Any:
        """`common.BlockchainInfo`."""
        previous = self.block(self.height - 1).header.previous_hash if self.height else b""
        return ledger_pb2.BlockchainInfo(
            height=self.height, currentBlockHash=self.last_hash, previousBlockHash=previous
        )

    def block_bytes(self, number: int) -> bytes:
        """The serialized `common.Block` as this peer stores it (validation flags set). KeyError if not there."""
        return self._read_blocks.content(number)

    def block(self, number: int) -> Any:
        """`common.Block`; a new message each time."""
        return common_pb2.Block.FromString(self.block_bytes(number))

    def block_number_of_hash(self, header_hash: bytes) -> int | None:
        return self._read_blocks.number_of_hash(header_hash)

    def block_number_of_transaction(self, tx_id: str) -> int | None:
        found = self._transaction(tx_id)
        return None if found is None else found[0]

    def transaction(self, tx_id: str) -> Any | None:
        """`peer.ProcessedTransaction`."""
        found = self._transaction(tx_id)
        if found is None:
            return None
        block, position, code = found
        envelope = common_pb2.Envelope.FromString(self.block(block).data.data[position])
        return transaction_pb2.ProcessedTransaction(transactionEnvelope=envelope, validationCode=code)

    def validation_code(self, tx_id: str) -> tuple[int, int] | None:
        """(code, block number) of the first transaction with this id."""
        found = self._transaction(tx_id)
        return None if found is None else (found[2], found[0])

    def private_data(self, number: int) -> dict[int, Any]:
        """Transaction index → `rwset.TxPvtReadWriteSet` of this organization's collection in that block, without
        what was purged since."""
        with reading(self.folder, number):
            return private_store.of_block(self._reader, self.folder, number)

    def snapshot(self) -> Snapshot:
        """The newest state. Cheap; shared between callers at one height."""
        return self._views.snapshot(self.height)

    def commit(self, validated: ValidatedBlock, private_data: Mapping[int, bytes]) -> None:
        """Appends. `private_data`: transaction index → bytes of its TxPvtReadWriteSet; collections of others and what
        does not match the public hash are left out. LedgerUnwritable when the disk refuses.

        The three steps below in one: the first and last want the event loop's thread, the second waits for the disk.
        """
        self.stage(validated, private_data)
        self.sync_staged()
        self.staged_is_committed()

    def stage(self, validated: ValidatedBlock, private_data: Mapping[int, bytes]) -> None:
        """Writes the block into an open transaction; nobody sees it yet."""
        number = validated.number
        if number != self.height:
            raise ValueError(f"block {number} cannot follow at height {self.height}")
        with writing(self._connection, self.folder, number):
            self._connection.execute("BEGIN IMMEDIATE")
            self._blocks.insert(number, validated.hash, validated.raw)
            self._insert_transactions(validated)
            self._apply(validated.updates, number)
            private_store.apply(self._connection, self.folder, self.collection, validated, private_data)
        self._staged = validated

    def sync_staged(self) -> None:
        """Blocks until the staged block is on disk. May run in any thread, between the two other steps."""
        if self._staged is None:
            raise ValueError("no block is staged")
        with writing(self._connection, self.folder, self._staged.number):
            self._connection.execute("COMMIT")
            self._log_is_due |= bool(self._staged.updates.purged) or log_is_long(self.folder / FILE_NAME)
            if self._log_is_due:
                self._log_is_due = not empty_log(self._connection)

    def staged_is_committed(self) -> None:
        """Makes the block count: height, reads and waiters."""
        staged, self._staged = self._staged, None
        if staged is None:
            raise ValueError("no block is staged")
        self._blocks.appended(staged.number, staged.hash, b"")
        self._read_blocks.appended(staged.number, staged.hash, staged.raw)
        self.commit_hash = staged.commit_hash
        if staged.config is not None:
            self._adopt(staged.config, staged.number)
        if staged.changes_lifecycle:
            self.definitions.clear()
        ready = [waiter for height, waiter in self._waiting if height <= self.height]
        self._waiting = [(height, waiter) for height, waiter in self._waiting if height > self.height]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """A block that is staged and not synced is dropped; the orderer still has it."""
        self._views.close()
        self._reader.close()
        self._connection.close()

    def _insert_transactions(self, validated: ValidatedBlock) -> None:
        rows = [
            (tx.tx_id, validated.number, tx.index, tx.code, _tx_checksum(tx.tx_id, validated.number, tx.index, tx.code))
            for tx in validated.transactions
            if tx.tx_id
        ]
        self._connection.executemany("INSERT OR IGNORE INTO tx VALUES (?, ?, ?, ?, ?)", rows)

    def _apply(self, updates: StateUpdates, number: int) -> None:
        write_rows(self._connection, "state", updates.public_rows())
        write_rows(self._connection, "hashed", updates.hashed_rows())
        keys = [(state.state_key(namespace, key), number, tx) for namespace, key, tx in updates.history]
        self._connection.executemany(
            "INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?)", [(*entry, checksum(*entry)) for entry in keys]
        )

    def _transaction(self, tx_id: str) -> tuple[int, int, int] | None:
        with reading(self.folder, self.height - 1):
            found = self._reader.execute("SELECT block, position, code, crc FROM tx WHERE id = ?", (tx_id,)).fetchone()
        if found is None or found[0] >= self.height:
            return None
        block, position, code, crc = found
        if _tx_checksum(tx_id, block, position, code) != crc:
            raise LedgerCorrupt(self.folder, block, "its entry in the index of transactions was changed")
        return block, position, code

    def _write_in_block(self, block: int, transaction: int, namespace: str, key: str) -> KeyModification:
        return envelopes.write_of(self.block(block).data.data[transaction], namespace, key)

    def _check(self) -> None:
        check_structure(self._connection, self.folder, self.height)
        self._read_blocks.check()
        ledger_check.check_rows(self._connection, self.folder)
        self._check_identity()
        if self.height:
            newest = self.block(self.height - 1)
            self.commit_hash = commit_hash_of(newest.metadata.metadata[common_pb2.COMMIT_HASH])
            number = last_config_number(newest)
            self._adopt(config_of(self.block_bytes(number)), number)

    def _adopt(self, config: Any, number: int) -> None:
        self.config, self.config_number = config, number
        self.collections = implicit_collections(config)

    def _check_identity(self) -> None:
        for name, value in (("channel", self.channel), ("msp_id", self.msp_id)):
            self._connection.execute("INSERT OR IGNORE INTO identity VALUES (?, ?)", (name, value))
            (stored,) = self._connection.execute("SELECT value FROM identity WHERE name = ?", (name,)).fetchone()
            if stored != value:
                raise LedgerCorrupt(self.folder, None, f"the ledger belongs to another {name}, {stored}")


def write_rows(connection: sqlite3.Connection, table: str, rows: TableRows) -> None:
    connection.executemany(f"DELETE FROM {table} WHERE key = ?", rows.gone)  # noqa: S608
    connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", rows.kept)  # noqa: S608


def _tx_checksum(tx_id: str, block: int, position: int, code: int) -> int:
    return checksum(tx_id.encode(), block, position, code)
