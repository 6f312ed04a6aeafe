"""What an authority must not forget: identities, and the certificates that it issued. One SQLite file."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity (
    id TEXT PRIMARY KEY, secret_salt BLOB NOT NULL, secret_hash BLOB NOT NULL, type TEXT NOT NULL,
    attributes TEXT NOT NULL, max_enrollments INTEGER NOT NULL, enrollments INTEGER NOT NULL DEFAULT 0,
    failed_logins INTEGER NOT NULL DEFAULT 0, revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS certificate (
    serial TEXT NOT NULL, aki TEXT NOT NULL, id TEXT NOT NULL REFERENCES identity, not_after INTEGER NOT NULL,
    revoked_at INTEGER, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (serial, aki)
) STRICT;
CREATE INDEX IF NOT EXISTS certificate_of_identity ON certificate (id);
"""


@dataclass(frozen=True, slots=True)
class StoredAttribute:
    value: str
    ecert: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """`max_enrollments` -1: no limit."""

    id: str
    secret_salt: bytes
    secret_hash: bytes
    type: str
    attributes: Mapping[str, StoredAttribute]
    max_enrollments: int
    enrollments: int = 0
    failed_logins: int = 0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """`serial` and `aki`: lower-case hex without leading zeros."""

    serial: str
    aki: str
    id: str
    revoked: bool


class Store:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def identity(self, identifier: str) -> Identity | None:
        row = self._database.execute(
            "SELECT id, secret_salt, secret_hash, type, attributes, max_enrollments, enrollments, failed_logins, "
            "revoked FROM identity WHERE id = ?",
            (identifier,),
        ).fetchone()
        if row is None:
            return None
        found, salt, secret_hash, kind, attributes, max_enrollments, enrollments, failed_logins, revoked = row
        held = {name: StoredAttribute(*pair) for name, pair in json.loads(attributes).items()}
        return Identity(
            found, salt, secret_hash, kind, held, max_enrollments, enrollments, failed_logins, bool(revoked)
        )

    def add_identity(self, identity: Identity) -> None:
        attributes = {name: (attribute.value, attribute.ecert) for name, attribute in identity.attributes.items()}
        self._database.execute(
            "INSERT INTO identity (id, secret_salt, secret_hash, type, attributes, max_enrollments) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                identity.id,
                identity.secret_salt,
                identity.secret_hash,
                identity.type,
                json.dumps(attributes),
                identity.max_enrollments,
            ),
        )

    def count_enrollment(self, identifier: str) -> None:
        self._database.execute(
            "UPDATE identity SET enrollments = enrollments + 1, failed_logins = 0 WHERE id = ?", (identifier,)
        )

    def count_failed_login(self, identifier: str) -> None:
        self._database.execute("UPDATE identity SET failed_logins = failed_logins + 1 WHERE id = ?", (identifier,))

    def add_certificate(self, serial: str, aki: str, identifier: str, not_after: datetime) -> None:
        self._database.execute(
            "INSERT INTO certificate (serial, aki, id, not_after) VALUES (?, ?, ?, ?)",
            (serial, aki, identifier, int(not_after.timestamp())),
        )

    def certificate(self, serial: str, aki: str) -> Certificate | None:
        row = self._database.execute(
            "SELECT serial, aki, id, revoked_at IS NOT NULL FROM certificate WHERE serial = ? AND aki = ?",
            (serial, aki),
        ).fetchone()
        if row is None:
            return None
        found_serial, found_aki, identifier, revoked = row
        return Certificate(found_serial, found_aki, identifier, bool(revoked))

    def revoke_certificate(self, serial: str, aki: str, reason: str, at: datetime) -> None:
        self._database.execute(
            "UPDATE certificate SET revoked_at = ?, reason = ? WHERE serial = ? AND aki = ?",
            (int(at.timestamp()), reason, serial, aki),
        )

    def revoke_identity(self, identifier: str, reason: str, at: datetime) -> list[tuple[str, str]]:
        """Bars the identity and revokes its certificates that were not; (serial, aki) of those."""
        self._database.execute("UPDATE identity SET revoked = 1 WHERE id = ?", (identifier,))
        return self._database.execute(
            "UPDATE certificate SET revoked_at = ?, reason = ? WHERE id = ? AND revoked_at IS NULL "
            "RETURNING serial, aki",
            (int(at.timestamp()), reason, identifier),
        ).fetchall()

    def revoked_certificates(self, now: datetime) -> list[tuple[int, datetime]]:
        """Serial number and time of revocation of those that have not expired."""
        rows = self._database.execute(
            "SELECT serial, revoked_at FROM certificate WHERE revoked_at IS NOT NULL AND not_after > ? "
            "ORDER BY revoked_at, serial",
            (int(now.timestamp()),),
        )
        return [(int(serial, 16), datetime.fromtimestamp(revoked_at, UTC)) for serial, revoked_at in rows]
