"""What of a system cannot be had again, in one folder: keys, certificates, schema `hospital`, devnet's chain.

What derives from blocks is left out: a restored system makes it anew. The ledger is copied as it stood at one moment,
before the key tables, so that every EMR in the copy has its key. Official peers are backed up by their own means.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from emr_network.home import Home
from hlf_devnet.moment import one_moment

from emr_deploy.postgres import Postgres
from emr_deploy.system import NothingHere, System, UsageError

FORMAT = 1
KIND = "careledger-backup"
MANIFEST = "manifest.json"
FOLDERS = ("network/devnet", "network/ca", "network/organizations", "secrets", "issuer")
"""In the order in which they are copied."""
FILES = ("topology.yaml", "ports.json", "instances.json")
DATABASES = ("*.sqlite", "*.sqlite3")


class BackupUnusable(Exception):
    """The folder is no backup, a damaged one, or one of another release; the text says which."""


@dataclass(frozen=True)
class Manifest:
    """`files` has the SHA-256 of each; `schemas` the version of each hospital's database."""

    created_at: str
    files: dict[str, str]
    schemas: dict[str, str]

    def write(self, folder: Path) -> None:
        content = {"kind": KIND, "format": FORMAT, **vars(self)}
        text = json.dumps(content, indent=1, sort_keys=True)
        write_own(folder / MANIFEST, json.dumps({"sha256": _sha256(text.encode()), "manifest": text}).encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises BackupUnusable."""
        try:
            outer = json.loads((folder / MANIFEST).read_bytes())
            text = outer["manifest"]
            content = json.loads(text)
            kind, number = content["kind"], content["format"]
        except FileNotFoundError:
            raise BackupUnusable(f"{folder} is no backup: it has no {MANIFEST}") from None
        except (ValueError, TypeError, KeyError):
            raise BackupUnusable(f"{folder} is no backup, or its {MANIFEST} is damaged") from None
        if kind != KIND or outer.get("sha256") != _sha256(text.encode()):
            raise BackupUnusable(f"{folder} is no backup, or its {MANIFEST} is damaged")
        if number != FORMAT:
            raise BackupUnusable(f"the backup has format {number}, and this release reads format {FORMAT}")
        return cls(content["created_at"], content["files"], content["schemas"])


async def back_up(system: System, target: Path) -> Manifest:
    """Writes a backup into a new or empty folder, while the system runs or while Postgres alone does.

    All of it is readable by its owner only, and in the clear, keys included: ``sealed_backup`` seals it.
    """
    topology = system.topology
    require_empty(target, "back up into another folder")
    postgres = Postgres(system.home, system.ports)
    if not await postgres.is_ready():
        raise NothingHere("Postgres does not run: start the system with emr up")
    make_folder(target)
    with one_moment(system.home.network / "devnet") as ledgers:
        for source in _sources(system.home):
            _copy(source, target / "home" / source.relative_to(system.home.root), ledgers.get(source))
    schemas = {}
    for organization in topology.organizations:
        path = target / "postgres" / f"{organization.name}.dump"
        make_folder(path.parent)
        postgres.dump(organization.name, path)
        schemas[organization.name] = await postgres.schema_version(organization.name)
    files = {path.relative_to(target).as_posix(): _sha256(path.read_bytes()) for path in sorted(_files(target))}
    manifest = Manifest(datetime.now(UTC).isoformat(timespec="seconds"), files, schemas)
    manifest.write(target)
    return manifest


def check(folder: Path) -> Manifest:
    """The manifest of a backup of which nothing is missing or changed. Raises BackupUnusable."""
    manifest = Manifest.read(folder)
    for name, sha256 in manifest.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts[:1] not in (("home",), ("postgres",)):
            raise BackupUnusable("the backup names files outside of it")
        try:
            content = (folder / name).read_bytes()
        except OSError:
            raise BackupUnusable(f"the backup lacks {name}") from None
        if _sha256(content) != sha256:
            raise BackupUnusable(f"{name} in the backup is damaged")
    return manifest


async def restore(system: System, folder: Path, *, free_ports: bool = False) -> Manifest:
    """Makes a system out of a backup, in an EMR_HOME that holds none. It is not started; rows come back once it is.

    `free_ports` takes other ports than the backup's, for a second system on one machine. Raises BackupUnusable before
    anything is written.
    """
    manifest = check(folder)
    home = system.home
    require_empty(home.root, "restore into another EMR_HOME")
    _refuse_other_schemas(manifest)
    for name in manifest.files:
        if name.startswith("home/") and not (free_ports and name == "home/ports.json"):
            _copy(folder / name, home.root / name.removeprefix("home/"))
    old_ports = json.loads((folder / "home" / "ports.json").read_text(encoding="utf-8"))
    system.prepare(free_ports=free_ports)
    postgres = Postgres(home, system.ports)
    async with postgres.running():
        await postgres.make_databases(system.topology)
        for organization in system.topology.organizations:
            postgres.load(organization.name, folder / "postgres" / f"{organization.name}.dump")
            if free_ports:
                await _move_issuer(postgres, system, organization.name, old_ports)
    return manifest


def require_empty(folder: Path, otherwise: str) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: {otherwise}")


def _refuse_other_schemas(manifest: Manifest) -> None:
    from emr_readmodel.migrate import newest

    for version in set(manifest.schemas.values()):
        if version != newest():
            raise BackupUnusable(
                f"the backup's databases are at schema {version}, and this release restores {newest()}: "
                "restore with the release that made it, and upgrade then"
            )


async def _move_issuer(postgres: Postgres, system: System, organization: str, old_ports: dict[str, Any]) -> None:
    """Tokens of the development issuer name its address, and so does the wallet."""
    numbers = old_ports.get("ports", old_ports)
    before = f":{numbers['issuer']}/"
    after = f":{system.ports['issuer']}/"
    await postgres.execute(organization, "update hospital.wallet set issuer = replace(issuer, $1, $2)", before, after)


def _sources(home: Home) -> Iterator[Path]:
    for name in FOLDERS:
        yield from _in_order(home.root / name)
    for name in FILES:
        if (home.root / name).exists():
            yield home.root / name


def _in_order(folder: Path) -> Iterator[Path]:
    """Files of a folder. What SQLite keeps beside a database is in the copy of the database."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    yield from sorted(found)


def _copy(source: Path, target: Path, database: sqlite3.Connection | None = None) -> None:
    """``database``: the source, where it is open as it is to be copied."""
    make_folder(target.parent)
    if database is not None:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(target)) as copy:
            database.backup(copy)
    elif any(source.match(pattern) for pattern in DATABASES):
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as opened:
            _copy(source, target, opened)
    else:
        write_own(target, source.read_bytes())


def write_own(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def make_folder(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
