"""One Postgres for all tests of parts in a process; each test has a database or ids of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from emr_readmodel import engine, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database, postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
async def template(server: PostgresServer) -> AsyncIterator[str]:
    """The name of a database at the newest schema, to be copied: migrations take longer than a copy."""
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        yield url.rsplit("/", 1)[1]


@pytest.fixture
async def database(server: PostgresServer, template: str) -> AsyncIterator[AsyncEngine]:
    """A pool on a database of the test's own, at the newest schema."""
    async with empty_database(server, template=template) as url:
        pool = engine.create(url, 5)
        yield pool
        await pool.dispose()
