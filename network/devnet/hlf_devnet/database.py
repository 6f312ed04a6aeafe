"""SQLite as devnet uses it: write-ahead log, every commit on disk before it counts, checksums on every row."""

import marshal
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_WAL_BYTES = 16 * 1024 * 1024


class LedgerCorrupt(Exception):
    """Stored bytes are not what was committed. One line naming folder and block; nothing is served from the folder."""

    def __init__(self, folder: Path, block: int | None, what: str) -> None:
        super().__init__(f"{folder}: block {'?' if block is None else block}: {what}")
        self.folder = folder
        self.block = block


class LedgerUnwritable(Exception):
    """The disk refused a block (full, read-only). One line naming folder and block; the block is not committed."""

    def __init__(self, folder: Path, block: int, what: str) -> None:
        super().__init__(f"{folder}: block {block} cannot be written: {what}")
        self.folder = folder
        self.block = block


def connect(path: Path, *, synchronous: str = "FULL", cache_kib: int = 2048) -> sqlite3.Connection:
    """Transactions are begun and ended by the caller. Usable from any thread, one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(f"PRAGMA cache_size=-{cache_kib}")
    connection.execute("PRAGMA secure_delete=ON")
    return connection


def checksum(*parts: bytes | int) -> int:
    """Of a row. `marshal` writes types and lengths too, so that bytes cannot move from one column to the next; its
    format 2 is fixed and the quickest there is, which counts when a whole ledger is checked at the start."""
    return zlib.crc32(marshal.dumps(parts, 2))


def log_is_long(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > LONGEST_WAL_BYTES


def empty_log(connection: sqlite3.Connection) -> bool:
    """Moves the log into the file and empties it, so that deleted bytes are nowhere. False when readers are in the way:
    try again later."""
    connection.execute("PRAGMA busy_timeout=20")
    (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute("PRAGMA busy_timeout=10000")
    return not is_busy


def check_structure(connection: sqlite3.Connection, folder: Path, height: int) -> None:
    """LedgerCorrupt when tables and indexes do not agree or a page is damaged."""
    with reading(folder, height - 1):
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise LedgerCorrupt(folder, height - 1, "the ledger file is damaged")


@contextmanager
def reading(folder: Path, block: int | None) -> Iterator[None]:
    """SQLite's errors become LedgerCorrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise LedgerCorrupt(folder, block, f"the ledger file cannot be read ({_name(error)})") from error


@contextmanager
def writing(connection: sqlite3.Connection, folder: Path, block: int) -> Iterator[None]:
    """Takes back what was begun when the body fails; a refusing disk becomes LedgerUnwritable."""
    try:
        yield
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            raise LedgerUnwritable(folder, block, _name(error)) from error
        if isinstance(error, sqlite3.DatabaseError):
            raise LedgerCorrupt(folder, block, f"the ledger file is damaged ({_name(error)})") from error
        raise


def _name(error: sqlite3.Error) -> str:
    """SQLite's name for what happened; its text could hold content. Errors of Python's module itself have none."""
    return getattr(error, "sqlite_errorname", "malformed row")
