"""A backup of the running system, restored into another EMR_HOME and proved by making its rows anew."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_common.settings import LedgerSettings
from emr_deploy.backup import MANIFEST, BackupUnusable, back_up, check, restore
from emr_deploy.postgres import Postgres
from emr_deploy.sealed_backup import ENVELOPE, back_up_sealed, make_key, open_sealed, private_key, restore_sealed
from emr_deploy.system import System, UsageError
from emr_indexer.jobs.rebuild import Rebuild
from emr_indexer.jobs.shadow import Source
from emr_indexer.jobs.store import Job, JobKind
from emr_indexer.peer import peer_blocks
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.events import PARTITIONS
from emr_network.home import Home
from emr_network.material import peer_organization
from emr_readmodel import engine as engines
from emr_readmodel import hospital
from sqlalchemy.ext.asyncio import AsyncEngine
from support.reference_replay import actual
from support.stack import Stack

NEVER_DERIVED = (
    hospital.emr_key,
    *(table for table in hospital.emr_key.metadata.sorted_tables if "releas" in table.name),
)
"""What a rebuild could not bring back: keys of EMRs, and what was published."""


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's private key; the public one stands beside it."""
    path = tmp_path_factory.mktemp("operator") / "backup.key"
    make_key(path)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sealed(stack: Stack, identity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Taken while somebody writes."""
    healthcenter, physician = await stack.staff("a", "healthcenter"), await stack.staff("a", "physician")
    patient = await stack.patient(healthcenter)
    folder = tmp_path_factory.mktemp("backup") / "today"
    writing = asyncio.create_task(stack.add_note(physician, patient.emr_id))
    await back_up_sealed(stack.system, folder, identity.with_name("backup.key.pub"))
    await writing
    await stack.wait_for_rows("a")
    return folder


@pytest.fixture(scope="module")
def backup(sealed: Path, identity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the clear."""
    folder = tmp_path_factory.mktemp("backup") / "opened"
    open_sealed(sealed, folder, private_key(identity))
    return folder


@asynccontextmanager
async def _database(home: Home) -> AsyncIterator[AsyncEngine]:
    engine = engines.create(home.secret("a", "database-url").read_text(), 5)
    try:
        yield engine
    finally:
        await engine.dispose()


async def test_a_backup_is_for_its_owners_eyes_and_whole(backup: Path) -> None:
    check(backup)
    for path in backup.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    databases = list((backup / "home").rglob("*.sqlite*"))
    assert databases
    for path in databases:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)


async def test_a_restored_system_reads_every_note_that_the_ledger_has(
    stack: Stack, sealed: Path, identity: Path, tmp_path: Path
) -> None:
    home = Home(tmp_path / "elsewhere")
    system = System(home, lambda _: None)
    await restore_sealed(system, sealed, identity, free_ports=True)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"], "nothing is left in the clear beside it"
    async with Postgres(home, system.ports).running(), _database(home) as restored:
        block = (await _rebuild(stack, home, restored))["block"]
        await stack.wait_for_rows("a", block)
        async with _database(stack.home) as original:
            assert await actual(restored) == await actual(original)
            for table in NEVER_DERIVED:
                kept = await _rows(restored, table)
                assert kept <= await _rows(original, table), table.name
        assert await _rows(restored, hospital.emr_key)
        async with restored.connect() as connection:
            issuers = list(await connection.scalars(sa.text("select distinct issuer from hospital.wallet")))
        assert issuers
        assert all(f":{system.ports['issuer']}/" in issuer for issuer in issuers)


async def _rows(engine: AsyncEngine, table: sa.Table) -> set[str]:
    async with engine.connect() as connection:
        return {repr(tuple(row)) for row in await connection.execute(sa.select(table))}


async def _rebuild(stack: Stack, home: Home, engine: AsyncEngine) -> Any:
    """By the restored keys and database, from the peer that runs."""
    folder = peer_organization(home, stack.hospital("a"))
    ledger = LedgerSettings(
        endpoints=(stack.system.ports.address("peer-a"),),
        tls_ca_file=folder.tls_ca_certificate,
        identity_dir=folder.user("service"),
    )
    wrapping = WrappingKey.from_file(home.secret("a", "wrapping.keyset"))
    pseudonyms = Pseudonyms.from_file(home.secret("a", "pseudonym.key"))
    msp_id = stack.msp_id("a")

    def projector(on: AsyncEngine, partitions: int, locks: int) -> Projector:
        return Projector(on, msp_id, wrapping, pseudonyms, partitions, locks)

    async def told(_: Any) -> None: ...

    job = Job("j", JobKind.REBUILD, {}, "running", None, None, None, None, None, None)  # type: ignore[arg-type]
    async with peer_blocks(msp_id, ledger) as blocks:
        source = Source(blocks, BlockReader(ledger.channel, ledger.chaincode, msp_id), projector)
        return await Rebuild(engine, source, PARTITIONS).do(job, told)


def _without(folder: Path) -> None:
    next((folder / "postgres").iterdir()).unlink()


def _flipped(folder: Path) -> None:
    path = next((folder / "postgres").iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _foreign(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"sha256": "0", "manifest": "{}"}))


def _of_the_future(folder: Path) -> None:
    text = json.loads((folder / MANIFEST).read_text())["manifest"].replace('"format": 1', '"format": 2')
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"sha256": digest, "manifest": text}))


def _no_backup(folder: Path) -> None:
    (folder / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without, "lacks postgres/"),
        (_flipped, "is damaged"),
        (_foreign, "is no backup"),
        (_of_the_future, "format 2"),
        (_no_backup, "is no backup"),
    ],
)
async def test_what_is_no_whole_backup_is_refused_before_anything_is_written(
    backup: Path, tmp_path: Path, spoil: Any, said: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(backup, copy)
    spoil(copy)
    home = Home(tmp_path / "home")
    with pytest.raises(BackupUnusable, match=said):
        await restore(System(home, lambda _: None), copy)
    assert not home.root.exists()


def _plaintext(folder: Path) -> set[bytes]:
    """Of every private key and keyset."""
    found = [path for path in (folder / "home").rglob("*") if path.suffix in (".key", ".keyset", ".pem")]
    return {path.read_bytes() for path in found}


def test_a_sealed_backup_shows_nothing_of_what_it_holds(sealed: Path, backup: Path) -> None:
    secrets = {secret for secret in _plaintext(backup) if len(secret) >= 16}
    assert secrets
    for path in sealed.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
        content = path.read_bytes() if path.is_file() else b""
        assert not any(secret in content for secret in secrets), path
        assert b"PRIVATE KEY" not in content
        assert not content.startswith(b"SQLite format")


def _shortened(folder: Path) -> None:
    path = next((folder / "postgres").iterdir())
    path.write_bytes(path.read_bytes()[:-1])


def _swapped(folder: Path) -> None:
    first, second = sorted((folder / "postgres").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _without_key(folder: Path) -> None:
    (folder / ENVELOPE).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without, "lacks postgres/"),
        (_flipped, "is damaged"),
        (_shortened, "is damaged"),
        (_swapped, "is damaged"),
        (_without_key, "is no sealed backup"),
    ],
)
async def test_a_sealed_backup_that_was_changed_is_refused_before_anything_is_written(
    sealed: Path, identity: Path, tmp_path: Path, spoil: Any, said: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    spoil(copy)
    home = Home(tmp_path / "home")
    with pytest.raises(BackupUnusable, match=said):
        await restore_sealed(System(home, lambda _: None), copy, identity)
    assert not home.root.exists()


async def test_another_key_opens_no_backup(sealed: Path, identity: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "other.key")
    home = Home(tmp_path / "home")
    with pytest.raises(BackupUnusable, match="another key"):
        await restore_sealed(System(home, lambda _: None), sealed, tmp_path / "other.key")
    with pytest.raises(UsageError, match="no key"):
        await restore_sealed(System(home, lambda _: None), sealed, identity.with_name("backup.key.pub"))
    assert not home.root.exists()


async def test_folders_that_hold_something_are_left_alone(stack: Stack, backup: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        await back_up(stack.system, backup)
    with pytest.raises(UsageError, match="not empty"):
        await restore(stack.system, backup)
