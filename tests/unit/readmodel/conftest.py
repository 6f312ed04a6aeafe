"""Roles belong to a server: these tests make and grant them, on one of their own."""

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


@pytest.fixture
async def database(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        pool = engine.create(url, 5)
        yield pool
        await pool.dispose()
