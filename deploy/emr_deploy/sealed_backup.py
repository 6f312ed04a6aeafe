"""A backup that only its operator can read: each file under one fresh key, that key under the operator's public key.

The system that makes backups needs the public key alone, so whoever takes it over cannot read those of before. Tink:
AES-256-GCM in a stream for files, bound to their names; HPKE for the key.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tink
from emr_common.sealing import SealingFailed, SealingPrivateKey, SealingPublicKey
from tink import json_proto_keyset_format, secret_key_access, streaming_aead

from emr_deploy.backup import BackupUnusable, Manifest, back_up, check, make_folder, require_empty, restore, write_own
from emr_deploy.system import System, UsageError

ENVELOPE = "sealed.json"
KIND = "careledger-sealed-backup"
FORMAT = 1
BOUND_TO = b"careledger-backup-key"

streaming_aead.register()


def make_key(path: Path) -> Path:
    """A new private key in ``path``, for whoever restores; its public half, for whoever backs up, is returned."""
    public = path.with_name(f"{path.name}.pub")
    if path.exists() or public.exists():
        raise UsageError(f"{path} or {public.name} is there already")
    key = SealingPrivateKey.generate()
    write_own(path, key.serialized().encode())
    write_own(public, base64.b64encode(key.public_keyset()))
    return public


async def back_up_sealed(system: System, target: Path, recipient: Path) -> Manifest:
    """As ``back_up``, for the holder of the private half of ``recipient``. What is in the clear stays in EMR_HOME."""
    require_empty(target, "back up into another folder")
    public = public_key(recipient)
    with _folder_beside(system.home.root / "backup") as staged:
        manifest = await back_up(system, staged / "plain")
        seal(staged / "plain", target, public)
    return manifest


async def restore_sealed(system: System, folder: Path, identity: Path, *, free_ports: bool = False) -> Manifest:
    """As ``restore``. Raises BackupUnusable, before EMR_HOME is touched, for another key too."""
    require_empty(system.home.root, "restore into another EMR_HOME")
    with _folder_beside(system.home.root) as staged:
        open_sealed(folder, staged / "plain", private_key(identity))
        return await restore(system, staged / "plain", free_ports=free_ports)


def is_sealed(folder: Path) -> bool:
    return (folder / ENVELOPE).exists()


def seal(plain: Path, target: Path, public: SealingPublicKey) -> None:
    """The key comes last: without it, a folder is no backup."""
    keyset = tink.new_keyset_handle(streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB)
    stream = keyset.primitive(streaming_aead.StreamingAead)
    make_folder(target)
    for name in _names(plain):
        make_folder((target / name).parent)
        destination = os.fdopen(os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        with (plain / name).open("rb") as source, stream.new_encrypting_stream(destination, name.encode()) as sealed:
            shutil.copyfileobj(source, sealed)
    secret = json_proto_keyset_format.serialize(keyset, secret_key_access.TOKEN).encode()
    key = base64.b64encode(public.seal(secret, BOUND_TO)).decode()
    write_own(target / ENVELOPE, json.dumps({"kind": KIND, "format": FORMAT, "key": key}).encode())


def open_sealed(folder: Path, plain: Path, private: SealingPrivateKey) -> None:
    """A checked backup in the clear. Raises BackupUnusable."""
    stream = _stream(folder, private)
    for name in _names(folder):
        make_folder((plain / name).parent)
        try:
            with (folder / name).open("rb") as source, stream.new_decrypting_stream(source, name.encode()) as opened:
                write_own(plain / name, opened.read())
        except (tink.TinkError, OSError) as error:
            raise BackupUnusable(f"{name} in the backup is damaged") from error
    check(plain)


def _stream(folder: Path, private: SealingPrivateKey) -> streaming_aead.StreamingAead:
    try:
        envelope = json.loads((folder / ENVELOPE).read_bytes())
        kind, number, key = envelope["kind"], envelope["format"], base64.b64decode(envelope["key"], validate=True)
    except (OSError, ValueError, TypeError, KeyError):
        raise BackupUnusable(f"{folder} is no sealed backup, or its {ENVELOPE} is damaged") from None
    if kind != KIND or number != FORMAT:
        raise BackupUnusable(f"this release reads sealed backups of format {FORMAT}")
    try:
        secret = private.open(key, BOUND_TO).decode()
    except SealingFailed:
        raise BackupUnusable("the backup was made for another key") from None
    keyset = json_proto_keyset_format.parse(secret, secret_key_access.TOKEN)
    return keyset.primitive(streaming_aead.StreamingAead)


def _names(folder: Path) -> Iterator[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return (name for name in sorted(found) if name != ENVELOPE)


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """For what is in the clear, on the file system that holds it anyway; gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as made:
        yield Path(made)


def public_key(path: Path) -> SealingPublicKey:
    try:
        return SealingPublicKey.from_base64(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError, SealingFailed):
        raise UsageError(f"{path} is no public key of emr backup-key") from None


def private_key(path: Path) -> SealingPrivateKey:
    try:
        return SealingPrivateKey.from_file(path)
    except (OSError, ValueError, SealingFailed):
        raise UsageError(f"{path} is no key of emr backup-key") from None
