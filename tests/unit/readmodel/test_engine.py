"""Connections to a hospital's Postgres."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from emr_readmodel import engine as engines
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database


async def _backend(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(sa.text("select pg_backend_pid()")) or 0)


async def test_connections_that_the_server_has_closed_are_replaced_before_they_are_used(server: PostgresServer) -> None:
    async with empty_database(server) as url:
        engine, other = engines.create(url, 1), engines.create(url, 1)
        try:
            async with engine.connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
            before = await _backend(engine)
            async with other.connect() as connection:
                await connection.execute(sa.text(f"select pg_terminate_backend({before})"))
            assert driver is not None
            async with asyncio.timeout(60):
                while not driver.is_closed():
                    await asyncio.sleep(0.01)
            assert await _backend(engine) != before
        finally:
            await engine.dispose()
            await other.dispose()


async def test_work_on_all_rows_may_take_longer_than_a_request(server: PostgresServer) -> None:
    async with empty_database(server) as url:
        engine = engines.create(url, 1)
        try:
            async with engines.patient(engine) as patient:
                assert [await _statement_timeout(each) for each in (engine, patient)] == ["30s", "30min"]
        finally:
            await engine.dispose()


async def _statement_timeout(engine: AsyncEngine) -> str:
    async with engine.connect() as connection:
        return str(await connection.scalar(sa.text("select current_setting('statement_timeout')")))
