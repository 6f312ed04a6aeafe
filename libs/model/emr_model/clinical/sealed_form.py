"""The bytes that are sealed, and the commitment to them that stands on the ledger.

plaintext = format byte ‖ 32 random bytes of salt ‖ zlib(canonical); commitment = SHA-256(salt ‖ canonical), in hex.
Whoever verifies hashes the bytes that were opened, and never serializes again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from dataclasses import dataclass

from emr_model.clinical.errors import CommitmentMismatch, ContentTooLarge, SealedFormInvalid
from emr_model.clinical.limits import NOTE_MAX_BYTES

FORMAT = 1
SALT_BYTES = 32


@dataclass(frozen=True, repr=False)
class Packed:
    """What is sealed (``plaintext``) and what is published of it (``commitment``, hex)."""

    plaintext: bytes
    commitment: str
    salt: bytes


@dataclass(frozen=True, repr=False)
class Unpacked:
    """Opened content: its salt and its canonical bytes, both verified against a commitment."""

    salt: bytes
    canonical: bytes


def pack(canonical: bytes, *, salt: bytes | None = None, limit: int = NOTE_MAX_BYTES) -> Packed:
    """Packs canonical bytes with a new random salt. Raises ContentTooLarge above ``limit``."""
    if len(canonical) > limit:
        raise ContentTooLarge(f"content is over {limit} bytes")
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    if len(salt) != SALT_BYTES:
        raise SealedFormInvalid("the salt has another length")
    plaintext = bytes([FORMAT]) + salt + zlib.compress(canonical, 9)
    return Packed(plaintext=plaintext, commitment=commitment(salt, canonical), salt=salt)


def unpack(plaintext: bytes, expected_commitment: str, *, limit: int = NOTE_MAX_BYTES) -> Unpacked:
    """The content of opened bytes, verified.

    Raises SealedFormInvalid, ContentTooLarge (it inflates to more than ``limit``) or CommitmentMismatch.
    """
    if len(plaintext) <= 1 + SALT_BYTES or plaintext[0] != FORMAT:
        raise SealedFormInvalid("opened bytes are in an unknown format")
    salt = plaintext[1 : 1 + SALT_BYTES]
    canonical = inflate(plaintext[1 + SALT_BYTES :], limit)
    verify(salt, canonical, expected_commitment)
    return Unpacked(salt=salt, canonical=canonical)


def commitment(salt: bytes, canonical: bytes) -> str:
    """SHA-256(salt ‖ canonical), in lowercase hex."""
    return hashlib.sha256(salt + canonical).hexdigest()


def verify(salt: bytes, canonical: bytes, expected_commitment: str) -> None:
    """Raises CommitmentMismatch when the content is not what the commitment was made for."""
    if len(salt) != SALT_BYTES or not hmac.compare_digest(commitment(salt, canonical), expected_commitment):
        raise CommitmentMismatch("the content is not what the ledger's commitment was made for")


def inflate(compressed: bytes, limit: int) -> bytes:
    """Inflates one whole zlib stream, never holding more than ``limit`` + 1 bytes.

    Raises SealedFormInvalid or ContentTooLarge.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(compressed, limit + 1)
    except zlib.error:
        raise SealedFormInvalid("compressed bytes are damaged") from None
    if len(data) > limit:
        raise ContentTooLarge(f"content inflates to more than {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise SealedFormInvalid("compressed bytes are cut off or have something after them")
    return data
