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

import orjson
import structlog
import tink
from google.protobuf.message import DecodeError
from tink import aead, hybrid, json_proto_keyset_format, proto_keyset_format, secret_key_access
from tink.proto import tink_pb2

Kind = Literal["note", "demographics", "snapshot"]

aead.register()
hybrid.register()

log = structlog.get_logger(__name__)


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
    return orjson.dumps(place, option=orjson.OPT_SORT_KEYS)


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
    """The hospital's key that wraps keys and other small secrets at rest. A Tink AEAD keyset; its file may be rotated
    (``keysets``) while it is in use: a change is seen before the next use.
    """

    def __init__(self, path: Path) -> None:
        """Raises SealingFailed, OSError."""
        self._path = path
        self._seen = _stamp(path)
        self._take(read_keyset(path))

    @classmethod
    def from_file(cls, path: Path) -> WrappingKey:
        return cls(path)

    def _take(self, handle: tink.KeysetHandle) -> None:
        self._in_use: aead.Aead = handle.primitive(aead.Aead)
        self._primary: bytes = handle.keyset_info().primary_key_id.to_bytes(4)

    @property
    def _aead(self) -> aead.Aead:
        self._look_again()
        return self._in_use

    def _look_again(self) -> None:
        """Keeps what it has when the file is not there or holds something else."""
        try:
            if (stamp := _stamp(self._path)) != self._seen:
                self._take(read_keyset(self._path))
                self._seen = stamp
        except (OSError, SealingFailed) as error:
            log.error("keyset_not_read", failure=type(error).__name__)

    def is_current(self, sealed: bytes) -> bool:
        """Whether the primary key has sealed it: Tink's output begins with a 1 and the key's id."""
        self._look_again()
        return sealed[:5] == b"\x01" + self._primary or _wrapped_by(sealed) == self._primary

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


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _wrapped_by(wrapped: bytes) -> bytes:
    """Id of the key that has wrapped a keyset; empty for other bytes."""
    try:
        return bytes(tink_pb2.EncryptedKeyset.FromString(wrapped).encrypted_keyset[1:5])
    except DecodeError:
        return b""


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
