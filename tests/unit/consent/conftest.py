from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_readmodel import engine, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database, postgres_server
from support.webhook_receiver import Receiver, webhook_receiver


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
async def migrated(server: PostgresServer) -> AsyncIterator[str]:
    """The name of a database at the newest schema, to be copied."""
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        yield url.rsplit("/", 1)[1]


@pytest.fixture
async def database(server: PostgresServer, migrated: str) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server, template=migrated) as url:
        pool = engine.create(url, 5)
        yield pool
        await pool.dispose()


@pytest.fixture(scope="session")
def keyset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("keys") / "wallet.keyset"
    path.write_text(new_wrapping_keyset())
    return path


@pytest.fixture(scope="session")
def wrapping(keyset: Path) -> WrappingKey:
    return WrappingKey.from_file(keyset)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with webhook_receiver(tmp_path) as running:
        yield running
