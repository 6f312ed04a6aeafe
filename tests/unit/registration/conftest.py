from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from emr_readmodel import engine as engines
from emr_readmodel import migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database


@pytest.fixture(scope="module")
async def engine(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        pool = engines.create(url, 10)
        yield pool
        await pool.dispose()
