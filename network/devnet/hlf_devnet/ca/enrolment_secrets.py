"""Enrolment secrets: only their salted hashes are kept."""

import hashlib
import secrets
from typing import Final

_SALT_BYTES: Final = 16
_SECRET_BYTES: Final = 18


def new_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def hashed(secret: str) -> tuple[bytes, bytes]:
    """Salt and hash."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return salt, _hash(secret, salt)


def matches(secret: str, salt: bytes, expected: bytes) -> bool:
    return secrets.compare_digest(_hash(secret, salt), expected)


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**12, r=8, p=1)
