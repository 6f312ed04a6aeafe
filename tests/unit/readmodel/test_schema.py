from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from emr_readmodel import analytics, engine, migrate, published
from emr_readmodel.columns import metadata
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database

COLLATED = ("emr_family_name_idx", "emr_given_names_idx")


async def test_the_migrations_make_what_the_tables_say(database: AsyncEngine) -> None:
    async with database.connect() as connection:
        differences = await connection.run_sync(_differences)
    assert differences == []


def _differences(connection: sa.Connection) -> list[object]:
    options: dict[str, Any] = {
        "include_object": _is_comparable,
        "include_schemas": True,
        "version_table": "schema_version",
        "compare_type": True,
    }
    differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return list(differences)


def _is_comparable(_: object, name: str | None, *__: object) -> bool:
    """Postgres does not tell an expression's collation with it, so these two have a test of their own."""
    return name not in COLLATED


async def test_names_are_indexed_byte_by_byte(database: AsyncEngine) -> None:
    query = sa.text("select indexdef from pg_indexes where schemaname = 'care' and indexname = any(:names)")
    async with database.connect() as connection:
        found = (await connection.scalars(query, {"names": list(COLLATED)})).all()
    assert {definition.partition(" USING ")[2] for definition in found} == {
        f'btree (lower({name}) COLLATE "C", emr_id)' for name in ("family_name", "given_names")
    }


async def test_every_table_view_and_column_has_a_comment(database: AsyncEngine) -> None:
    query = sa.text(
        """
        select format('%s.%s.%s', n.nspname, c.relname, coalesce(a.attname, ''))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        left join pg_attribute a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
        where n.nspname in ('hospital', 'care', 'analytics', 'published') and c.relkind in ('r', 'v')
          and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null)
        """
    )
    async with database.connect() as connection:
        assert (await connection.scalars(query)).all() == []


async def test_an_upgrade_of_a_new_schema_changes_nothing_but_the_views(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.text("insert into care.position(partition, block) values (0, 7)"))
    await migrate.upgrade(database.url)
    async with database.connect() as connection:
        assert await connection.scalar(sa.text("select block from analytics.as_of")) == 7


async def test_two_upgrades_at_once_end_well(server: PostgresServer) -> None:
    async with empty_database(server) as url:
        await asyncio.gather(migrate.upgrade(url), migrate.upgrade(url))
        pool = engine.create(url)
        async with pool.connect() as connection:
            for view in (*analytics.VIEWS, *published.VIEWS):
                await connection.execute(sa.text(f"select * from {view.qualified_name}"))
        await pool.dispose()


async def test_times_come_back_in_utc(database: AsyncEngine) -> None:
    async with database.connect() as connection:
        moment = (await connection.scalars(sa.select(sa.func.now()))).one()
    assert moment.tzinfo == UTC
