from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_readmodel import engine as engines
from emr_readmodel import migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database


@pytest.fixture(scope="session")
async def migrated(server: PostgresServer) -> AsyncIterator[str]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        yield url


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    """A pool on the session's migrated database: tests keep to ids of their own."""
    pool = engines.create(migrated, 10)
    yield pool
    await pool.dispose()


@pytest.fixture
def wrapping(tmp_path_factory: pytest.TempPathFactory) -> WrappingKey:
    path = tmp_path_factory.mktemp("keys") / "wrapping.keyset"
    path.write_text(new_wrapping_keyset())
    return WrappingKey.from_file(path)
