"""Blocks: their hashes, and a table of them that notices when one was changed."""

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fabric_protos.common import common_pb2
from google.protobuf.message import DecodeError

from hlf_devnet.database import LedgerCorrupt, reading

TABLE = """
CREATE TABLE IF NOT EXISTS block (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    content BLOB NOT NULL
)
"""
REMEMBERED_BLOCKS = 16


def header_bytes(header: Any) -> bytes:
    """The ASN.1 DER form of a `common.BlockHeader`, over which hash and signatures go."""
    body = _der_integer(header.number) + _der(4, header.previous_hash) + _der(4, header.data_hash)
    return _der(0x30, body)


def header_hash(header: Any) -> bytes:
    return hashlib.sha256(header_bytes(header)).digest()


def data_hash(envelopes: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for envelope in envelopes:
        digest.update(envelope)
    return digest.digest()


class BlockStore:
    """The chain in one SQLite file. What is returned was verified when it was read."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self.height = 0
        self._recent: dict[int, bytes] = {}
        with reading(folder, None):
            connection.execute(TABLE)
            self.height = int(connection.execute("SELECT count(*) FROM block").fetchone()[0])
        self.last_hash = self._hash_of(self.height - 1) if self.height else b""

    def check(self) -> None:
        """LedgerCorrupt at the first block that is not what was stored or does not follow from the one before."""
        previous = b""
        for number in range(self.height):
            block = self._parsed(number, self._read(number))
            data = data_hash(block.data.data)
            if block.header.previous_hash != previous and number:
                raise LedgerCorrupt(self._folder, number, "the block does not follow from the one before")
            if block.header.number != number or block.header.data_hash != data:
                raise LedgerCorrupt(self._folder, number, "the block does not match its header")
            previous = header_hash(block.header)
            if previous != self._hash_of(number):
                raise LedgerCorrupt(self._folder, number, "the block's hash was changed")
        self.last_hash = previous

    def insert(self, number: int, block_hash: bytes, content: bytes) -> None:
        """Within the caller's transaction; `appended` makes it count after that committed."""
        self._connection.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?)", (number, block_hash, hashlib.sha256(content).digest(), content)
        )

    def appended(self, number: int, block_hash: bytes, content: bytes) -> None:
        self._recent[number] = content
        self._recent.pop(number - REMEMBERED_BLOCKS, None)
        self.last_hash = block_hash
        self.height = number + 1

    def content(self, number: int) -> bytes:
        """The serialized block. KeyError if it is not there, LedgerCorrupt if it was changed."""
        if not 0 <= number < self.height:
            raise KeyError(number)
        recent = self._recent.get(number)
        return self._read(number) if recent is None else recent

    def number_of_hash(self, block_hash: bytes) -> int | None:
        with reading(self._folder, None):
            row = self._connection.execute("SELECT number FROM block WHERE hash = ?", (block_hash,)).fetchone()
        return None if row is None or row[0] >= self.height else int(row[0])

    def _read(self, number: int) -> bytes:
        with reading(self._folder, number):
            row = self._connection.execute("SELECT digest, content FROM block WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise LedgerCorrupt(self._folder, number, "the block is missing")
        digest, content = row
        if not isinstance(content, bytes) or hashlib.sha256(content).digest() != digest:
            raise LedgerCorrupt(self._folder, number, "the block was changed")
        return content

    def _hash_of(self, number: int) -> bytes:
        with reading(self._folder, number):
            row = self._connection.execute("SELECT hash FROM block WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise LedgerCorrupt(self._folder, number, "the block is missing")
        return bytes(row[0])

    def _parsed(self, number: int, content: bytes) -> Any:
        try:
            return common_pb2.Block.FromString(content)
        except DecodeError as error:
            raise LedgerCorrupt(self._folder, number, "the block is no block") from error


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    encoded = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(encoded))) + encoded + content


def _der_integer(value: int) -> bytes:
    return _der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))
