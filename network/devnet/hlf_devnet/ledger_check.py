"""Reads every row of a ledger once, when it is opened."""

import sqlite3
from pathlib import Path

from hlf_devnet import private_store, state
from hlf_devnet.database import LedgerCorrupt, checksum, reading


def check_rows(connection: sqlite3.Connection, folder: Path) -> None:
    """LedgerCorrupt at the first row that is not what was written."""
    with reading(folder, None):
        for table in state.VALUE_TABLES:
            query = f"SELECT key, value, metadata, block, tx, crc FROM {table}"  # noqa: S608
            for found in connection.execute(query):
                state.verified_row(folder, found)
        for found in connection.execute("SELECT key, block, tx, crc FROM history"):
            state.verified_history(folder, found)
        for found in connection.execute("SELECT block, tx, namespace, collection, content, crc FROM private_data"):
            private_store.verified(folder, found)
        for found in connection.execute("SELECT key, block, tx, name, crc FROM private_write"):
            private_store.verified_write(folder, found)
        for tx_id, *place, crc in connection.execute("SELECT id, block, position, code, crc FROM tx"):
            if checksum(tx_id.encode(), *place) != crc:
                raise LedgerCorrupt(folder, place[0], "its entry in the index of transactions was changed")
