from collections.abc import AsyncIterator, Iterator

import pytest
from emr_readmodel import engine as engines
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database, postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
async def engine(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    """A pool of few connections on an empty database."""
    async with empty_database(server) as url:
        pool = engines.create(url, 3)
        yield pool
        await pool.dispose()
