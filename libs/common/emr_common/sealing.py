"""How content is sealed: a key per EMR for its owner, a hybrid key per hospital for snapshots. Keys at rest are
wrapped.

The associated data binds every sealed value to its place, so a peer or a broker that moves bytes from one EMR, version
or recipient to another makes them unreadable.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tink
from tink import aead, hybrid, json_proto_keyset_format, proto_keyset_format, secret_key_access

Kind = Literal["note", "demographics", "snapshot"]

aead.register()
hybrid.register()


class SealingFailed(Exception):
    """Bytes cannot be opened: another key, other associated data, or altered bytes. Tink does not say which."""


def associated_data(*, channel: str, owner: str, recipient: str, kind: Kind, emr_id: str, version: int) -> bytes:
    """The canonical bytes that bind a sealed value to its place. ``owner`` and ``recipient`` are MSP ids, equal for own
    content.
    """
    place = {
        "channel": channel,
        "owner": owner,
        "recipient": recipient,
        "kind": kind,
        "emrId": emr_id,
        "version": version,
    }
    return json.dumps(place, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class ContentKey:
    """The key of one EMR."""

    def __init__(self, handle: tink.KeysetHandle) -> None:
        self._handle = handle
        self._aead: aead.Aead = handle.primitive(aead.Aead)

    @classmethod
    def generate(cls) -> ContentKey:
        return cls(tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM))

    def seal(self, plaintext: bytes, bound_to: bytes) -> bytes:
        sealed: bytes = self._aead.encrypt(plaintext, bound_to)
        return sealed

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Raises SealingFailed."""
        opened: bytes = _opened(lambda: self._aead.decrypt(sealed, bound_to))
        return opened


class WrappingKey:
    """The hospital's key that wraps keys and other small secrets at rest. A Tink AEAD keyset: rotated by adding a key
    to it.
    """

    def __init__(self, handle: tink.KeysetHandle) -> None:
        self._aead: aead.Aead = handle.primitive(aead.Aead)

    @classmethod
    def from_file(cls, path: Path) -> WrappingKey:
        return cls(read_keyset(path))

    def wrap(self, key: ContentKey, emr_id: str) -> bytes:
        wrapped: bytes = proto_keyset_format.serialize_encrypted(key._handle, self._aead, _bound("emr-key", emr_id))
        return wrapped

    def unwrap(self, wrapped: bytes, emr_id: str) -> ContentKey:
        """Raises SealingFailed."""
        bound_to = _bound("emr-key", emr_id)
        return ContentKey(_opened(lambda: proto_keyset_format.parse_encrypted(wrapped, self._aead, bound_to)))

    def seal(self, secret: bytes, use: str, name: str) -> bytes:
        """Seals a small secret other than a key; ``use`` and ``name`` are needed again to open it."""
        sealed: bytes = self._aead.encrypt(secret, _bound(use, name))
        return sealed

    def open(self, sealed: bytes, use: str, name: str) -> bytes:
        """Raises SealingFailed."""
        opened: bytes = _opened(lambda: self._aead.decrypt(sealed, _bound(use, name)))
        return opened


class SealingPublicKey:
    """Another hospital's published key: seals snapshots for it."""

    def __init__(self, serialized: bytes) -> None:
        """``serialized``: the Tink public keyset of ``org~``. Raises SealingFailed for anything else, a secret keyset
        included.
        """
        handle = _opened(lambda: proto_keyset_format.parse_without_secret(serialized))
        self._encrypt: hybrid.HybridEncrypt = _opened(lambda: handle.primitive(hybrid.HybridEncrypt))

    @classmethod
    def from_base64(cls, keyset: str) -> SealingPublicKey:
        """As ``org~`` carries it. Raises SealingFailed."""
        try:
            return cls(base64.b64decode(keyset, validate=True))
        except ValueError:
            raise SealingFailed("not base64") from None

    def seal(self, plaintext: bytes, bound_to: bytes) -> bytes:
        sealed: bytes = self._encrypt.encrypt(plaintext, bound_to)
        return sealed


class SealingPrivateKey:
    """The hospital's own hybrid keyset: opens the snapshots it received, under any of its keys."""

    def __init__(self, handle: tink.KeysetHandle) -> None:
        self._handle = handle
        self._decrypt: hybrid.HybridDecrypt = handle.primitive(hybrid.HybridDecrypt)

    @classmethod
    def generate(cls) -> SealingPrivateKey:
        template = hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM
        return cls(tink.new_keyset_handle(template))

    @classmethod
    def from_file(cls, path: Path) -> SealingPrivateKey:
        return cls(read_keyset(path))

    def public_keyset(self) -> bytes:
        """What ``org~`` publishes, Tink's binary form without secrets."""
        published: bytes = proto_keyset_format.serialize_without_secret(self._handle.public_keyset_handle())
        return published

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Raises SealingFailed."""
        opened: bytes = _opened(lambda: self._decrypt.decrypt(sealed, bound_to))
        return opened

    def serialized(self) -> str:
        """The keyset **in the clear**, for a file of mode 0600."""
        return _in_the_clear(self._handle)


def new_wrapping_keyset() -> str:
    """A fresh AEAD keyset **in the clear** (Tink JSON), for a file of mode 0600: ``wrapping.keyset`` or
    ``wallet.keyset``.
    """
    return _in_the_clear(tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM))


def read_keyset(path: Path) -> tink.KeysetHandle:
    """Reads a cleartext Tink JSON keyset. Raises SealingFailed if the file holds something else."""
    text = path.read_text(encoding="utf-8")
    return _opened(lambda: json_proto_keyset_format.parse(text, secret_key_access.TOKEN))


def _in_the_clear(handle: tink.KeysetHandle) -> str:
    text: str = json_proto_keyset_format.serialize(handle, secret_key_access.TOKEN)
    return text


def _bound(use: str, name: str) -> bytes:
    return json.dumps([use, name], separators=(",", ":")).encode()


def _opened(opening: Callable[[], Any]) -> Any:
    try:
        return opening()
    except tink.TinkError:
        raise SealingFailed("cannot be opened with this key in this place") from None
