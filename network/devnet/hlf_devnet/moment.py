"""The data of a network as they stood at one moment, read while the network runs."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from hlf_devnet import ledger, orderer

DATABASES = "*.sqlite3"
TRIES, PATIENT_TRIES = 200, 100
PAUSE_SECONDS = 0.01


@contextmanager
def one_moment(folder: Path) -> Iterator[dict[Path, sqlite3.Connection]]:
    """Every database below a data folder, open for reading while the body runs.

    Each peer has every block that the orderer has, so that none of them has to get one again: it would lack what was
    private in it, as that is kept apart from blocks. Only a peer that has got no block for a second, being stopped or
    no member, is taken as it is.
    """
    first: dict[Path, int] = {}
    for attempt in range(TRIES):
        with ExitStack() as opened:
            found = {path: opened.enter_context(_snapshot(path)) for path in _in_order(folder)}
            heights = _heights(found)
            first = first or heights
            if attempt >= PATIENT_TRIES:
                heights = {path: height for path, height in heights.items() if height != first.get(path)}
            if len(set(heights.values())) <= 1 or attempt == TRIES - 1:
                yield found
                return
        time.sleep(PAUSE_SECONDS)


def _in_order(folder: Path) -> list[Path]:
    """The orderer's last: no peer may have a block that it has not."""
    return sorted(folder.rglob(DATABASES), key=lambda path: (path.name == orderer.FILE_NAME, path))


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """What is committed later is not seen: SQLite's read transactions over a write-ahead log."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection


def _heights(found: dict[Path, sqlite3.Connection]) -> dict[Path, int]:
    """How many blocks the orderer and each peer have."""
    chains = {path: found[path] for path in found if path.name in (ledger.FILE_NAME, orderer.FILE_NAME)}
    return {path: connection.execute("SELECT count(*) FROM block").fetchone()[0] for path, connection in chains.items()}
