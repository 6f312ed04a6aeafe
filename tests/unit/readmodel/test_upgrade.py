"""A database that an earlier schema filled, brought to the newest while others read and write."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from emr_readmodel import engine, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database

ROWS = 5
SCHEMAS = ("hospital", "care")
ONE_OF = {
    "life": "active",
    "state": "done",
    "stage": "relay",
    "kind": "replay",
    "code": "VALUE_MALFORMED",
}
"""Columns that not any text fits."""

REVISIONS = ("0002", "0004")


@pytest.fixture(params=REVISIONS)
async def earlier(request: pytest.FixtureRequest, server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server) as url:
        pool = engine.create(url, 5)
        async with pool.begin() as connection:
            await connection.run_sync(lambda on: command.upgrade(migrate.configuration(on), request.param))
        yield pool
        await pool.dispose()


async def _fill(pool: AsyncEngine) -> dict[str, list[dict[str, Any]]]:
    """Rows in every table that there is. Returns them as Postgres gives them back."""
    found: dict[str, list[dict[str, Any]]] = {}
    async with pool.begin() as connection:
        metadata = sa.MetaData()
        for schema in SCHEMAS:
            await connection.run_sync(metadata.reflect, schema)
        for table in metadata.sorted_tables:
            identities = [column for column in table.c if column.identity is not None]
            columns = [column for column in table.c if column not in identities and not column.computed]
            for number in range(1, ROWS + 1):
                values = {column.name: _value(column, number) for column in columns}
                await connection.execute(sa.insert(table).values(values))
            query = sa.select(table).order_by(*table.primary_key)
            found[f"{table.schema}.{table.name}"] = [dict(row) for row in (await connection.execute(query)).mappings()]
    return found


def _value(column: sa.Column[Any], number: int) -> Any:
    if column.foreign_keys:
        return str(number) if isinstance(column.type, sa.Text) else number
    match column.type:
        case sa.Boolean():
            return number % 2 == 0
        case sa.Integer():
            return number * 15
        case sa.DateTime():
            return datetime(2026, 1, number, tzinfo=UTC)
        case sa.Date():
            return date(2026, 1, number)
        case sa.LargeBinary():
            return hashlib.sha256(bytes([number])).digest()
        case sa.Text():
            return (
                "pending"
                if column.table.name == "transaction" and column.name == "state"
                else ONE_OF.get(column.name, str(number))
            )
    return {"number": number}


async def test_every_row_of_an_earlier_schema_is_there_afterwards(earlier: AsyncEngine) -> None:
    before = await _fill(earlier)
    await migrate.upgrade(earlier.url)
    async with earlier.connect() as connection:
        for name, expected in before.items():
            columns = ", ".join(f'"{column}"' for column in expected[0])
            order = ", ".join(str(place) for place in range(1, len(expected[0]) + 1))
            schema, table = name.split(".")
            rows = await connection.execute(sa.text(f'select {columns} from {schema}."{table}"'))
            kept = sorted((dict(row) for row in rows.mappings()), key=str)
            assert kept == sorted(expected, key=str), (name, order)


async def test_an_upgrade_lets_readers_and_writers_through(earlier: AsyncEngine) -> None:
    await _fill(earlier)
    served = 0
    upgraded = False

    async def serve() -> None:
        nonlocal served
        while not upgraded:
            async with earlier.begin() as connection:
                await connection.execute(sa.text("select emr_id, version, sha256 from care.note where version = 15"))
                await connection.execute(sa.text("update care.emr set visits = visits + 1 where emr_id = '1'"))
            served += 1

    async with earlier.connect() as holding:
        await holding.execute(sa.text("select 1 from care.note limit 1"))  # keeps its lock until the end
        serving = [asyncio.create_task(serve()) for _ in range(2)]
        upgrading = asyncio.create_task(migrate.upgrade(earlier.url))
        await asyncio.sleep(3)
        assert not upgrading.done()
        waited = served
        await holding.rollback()
    await upgrading
    upgraded = True
    await asyncio.gather(*serving)
    assert served > waited > 0
    async with earlier.connect() as connection:
        assert await connection.scalar(sa.text("select version_num from schema_version")) == migrate.newest()
