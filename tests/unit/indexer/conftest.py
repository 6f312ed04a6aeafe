from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_readmodel import engine, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database, postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
async def database(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        pool = engine.create(url, 5)
        yield pool
        await pool.dispose()


@pytest.fixture(scope="session")
def wrapping(tmp_path_factory: pytest.TempPathFactory) -> WrappingKey:
    path: Path = tmp_path_factory.mktemp("keys") / "wrapping.keyset"
    path.write_text(new_wrapping_keyset())
    return WrappingKey.from_file(path)
