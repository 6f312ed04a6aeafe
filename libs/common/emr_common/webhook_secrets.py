"""How secrets of webhooks are kept: sealed by the wallet keyset, each bound to its own row."""

from __future__ import annotations

from emr_common.sealing import WrappingKey

USE = "webhook-secret"


def seal(keyset: WrappingKey, secret: bytes, secret_id: str) -> bytes:
    return keyset.seal(secret, USE, secret_id)


def unseal(keyset: WrappingKey, sealed: bytes, secret_id: str) -> bytes:
    """Raises SealingFailed."""
    return keyset.open(sealed, USE, secret_id)


def seal_anew(keyset: WrappingKey, sealed: bytes, secret_id: str) -> bytes:
    return seal(keyset, unseal(keyset, sealed, secret_id), secret_id)
