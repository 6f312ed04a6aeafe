"""What the roles of people reach in a hospital's database: their own schema's views, and nothing else by any way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
from emr_readmodel import analytics, published
from emr_readmodel.columns import metadata
from emr_readmodel.roles import provision
from sqlalchemy.engine import URL
from support.postgres import PostgresServer

VIEWS = {"analyst": analytics.VIEWS, "public": published.VIEWS}
OTHERS = {"analyst": "published.cube", "public": "analytics.visit"}
READERS = tuple(VIEWS)

REFUSED = {
    "a catalog with samples of rows": ["select * from pg_statistic", "select * from pg_statistic_ext_data"],
    "a catalog with passwords": ["select * from pg_authid", "select * from pg_shadow", "select * from pg_user_mapping"],
    "a catalog with other people's objects": [
        "select * from pg_largeobject",
        "select subconninfo from pg_subscription",
    ],
    "a server's files": [
        "select pg_read_file('postgresql.conf')",
        "select pg_read_binary_file('PG_VERSION')",
        "select pg_ls_dir('.')",
        "select pg_stat_file('PG_VERSION')",
        "select * from pg_hba_file_rules",
        "select * from pg_file_settings",
        "select lo_import('/etc/hostname')",
        "copy (select 1) to '/tmp/never-written'",
        "create table pg_temp.x (line text)",
    ],
    "a program": [
        "copy (select 1) to program 'id'",
        "create function x() returns int language c as 'x', 'x'",
        "load 'pg_prewarm'",
    ],
    "another database": [
        "create extension dblink",
        "create extension postgres_fdw",
        "create foreign data wrapper other",
        "create database other",
        "create subscription s connection 'host=127.0.0.1' publication p",
    ],
    "another role": [
        "set role emr_owner_r1",
        "set role emr_service_r1",
        "set role postgres",
        "set role pg_read_all_data",
        "set session authorization postgres",
        "grant emr_service_r1 to emr_analyst_r1",
        "grant pg_read_all_data to emr_public_r1",
        "alter role emr_service_r1 password 'x'",
        "create role x",
        "drop role emr_service_r1",
    ],
    "a place to leave something": [
        "create schema x",
        "create table x ()",
        "create temporary table x ()",
        "create view x as select 1",
        "create function x() returns int language sql return 1",
        "select lo_create(0)",
        "select lo_creat(-1)",
        "select lo_from_bytea(0, 'x')",
        "select pg_notify('x', 'x')",
        "select pg_logical_emit_message(false, 'x', 'x')",
        "comment on schema care is 'x'",
    ],
    "services that wait": [
        "select pg_advisory_lock(1)",
        "select pg_try_advisory_lock(1, 2)",
        "select pg_advisory_xact_lock_shared(1)",
        "do $$ begin lock table care.note in access exclusive mode; end $$",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'",
        "select pg_cancel_backend(pid) from pg_stat_activity where usename = 'postgres'",
        "checkpoint",
    ],
    "the server's settings": [
        "alter system set log_statement = 'all'",
        "set log_statement = 'all'",
        "select pg_reload_conf()",
        "select current_setting('data_directory')",
        "select pg_create_physical_replication_slot('x')",
        "select hospital.end_long_reads(0)",
    ],
    "rows by a detour": [
        "explain analyze select * from care.note",
        "copy care.note to stdout",
        "do $$ begin perform * from care.note; end $$",
        "prepare x as select * from hospital.emr_key",
        "create rule x as on select to analytics.visit do instead select 1",
        "select * from public.schema_version",
        "table hospital.access_log",
        "select count(*) from care.note",
        "select x from (select 1) as y(x) where exists (select 1 from hospital.patient_identifier)",
    ],
}


@dataclass(frozen=True)
class Reader:
    kind: str
    url: URL

    async def run(self, statement: str) -> None:
        async with self.session() as connection:
            await connection.execute(statement)

    async def rows(self, query: str) -> list[asyncpg.Record]:
        async with self.session() as connection:
            return await connection.fetch(query)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """As somebody who has first taken away what the role can take away from itself: the read-only default."""
        url = self.url.render_as_string(hide_password=False)
        connection = await asyncpg.connect(url, timeout=10, server_settings={"default_transaction_read_only": "off"})
        try:
            assert await connection.fetchval("show transaction_read_only") == "off"
            yield connection
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def readers(server: PostgresServer) -> AsyncIterator[dict[str, Reader]]:
    urls = await provision(server.url(), "r1", service_password="x", analyst_password="x", public_password="x")
    superuser = await asyncpg.connect(server.url())  # a session of another role's, in which there is something to see
    yield {kind: Reader(kind, urls[kind]) for kind in READERS}
    await superuser.close()


@pytest.fixture(params=READERS)
def reader(readers: dict[str, Reader], request: pytest.FixtureRequest) -> Reader:
    return readers[request.param]


async def test_a_reader_reads_the_views_without_naming_their_schema(reader: Reader) -> None:
    for view in VIEWS[reader.kind]:
        await reader.run(f"select * from {view.name}")


@pytest.mark.parametrize("statement", [each for group in REFUSED.values() for each in group])
async def test_a_reader_is_refused(reader: Reader, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.run(statement)


@pytest.mark.parametrize("table", [str(table) for table in metadata.sorted_tables])
async def test_a_reader_is_refused_each_table(reader: Reader, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.run(f"select * from {table}")


async def test_a_reader_is_refused_the_other_readers_views(reader: Reader) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.run("select * from " + OTHERS[reader.kind])


@pytest.mark.parametrize("view", ["pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"])
async def test_a_reader_sees_no_samples_of_tables(reader: Reader, view: str) -> None:
    counted = await reader.rows(
        f"select count(*) from {view} where schemaname not in ('pg_catalog', 'information_schema')"
    )
    assert [row["count"] for row in counted] == [0]


@pytest.mark.parametrize(
    "query",
    [
        "select n_live_tup from pg_stat_all_tables",
        "select idx_tup_read from pg_stat_all_indexes",
        "select heap_blks_hit from pg_statio_all_tables",
        "select n_tup_ins from pg_stat_xact_all_tables",
        "select tup_inserted from pg_stat_database",
        "select pg_stat_get_tuples_inserted('care.note'::regclass)",
        "select pg_stat_get_live_tuples(oid) from pg_class where relname = 'note'",
        "select pg_relation_size(oid) from pg_class where relname = 'note'",
        "select pg_total_relation_size(oid) from pg_class where relname = 'note'",
        "select reltuples from pg_class",
        "select relpages from pg_class",
        "table pg_class",
    ],
)
async def test_anybody_is_not_told_how_many_rows_there_are(readers: dict[str, Reader], query: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await readers["public"].run(query)


async def test_a_reader_fills_no_disk(reader: Reader) -> None:
    assert [row[0] for row in await reader.rows("show temp_file_limit")] == ["2GB"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.run("set temp_file_limit = -1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.run("alter role current_user set temp_file_limit = -1")


async def test_what_a_role_did_to_itself_is_undone_at_the_next_start(
    readers: dict[str, Reader], server: PostgresServer
) -> None:
    for statement in (
        "alter role current_user set statement_timeout = 0",
        "alter role current_user set search_path = pg_catalog",
        "alter role current_user set work_mem = '1GB'",
        "alter role current_user password 'mine'",
    ):
        await readers["analyst"].run(statement)
    await provision(server.url(), "r1", service_password="x", analyst_password="x", public_password="x")
    changed = "select current_setting('statement_timeout'), current_setting('search_path'), current_setting('work_mem')"
    assert [tuple(row) for row in await readers["analyst"].rows(changed)] == [("1min", "analytics", "4MB")]


async def test_a_transaction_of_a_reader_ends_when_the_service_has_waited_enough(reader: Reader) -> None:
    service = Reader("service", reader.url.set(username="emr_service_r1"))
    async with reader.session() as connection, service.session() as waiting:
        await connection.execute("begin")
        await connection.execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0")
        await connection.fetch(f"select * from {VIEWS[reader.kind][0].name}")
        assert await waiting.fetchval("select hospital.end_long_reads(60)") == 0
        assert await waiting.fetchval("select hospital.end_long_reads(0)") == 1
        async with asyncio.timeout(60):
            while not connection.is_closed():
                await asyncio.sleep(0.01)


async def test_a_reader_sees_no_query_of_somebody_else(reader: Reader) -> None:
    others = "select query from pg_stat_activity where usename is distinct from current_user and query <> ''"
    assert {row["query"] for row in await reader.rows(others)} == {"<insufficient privilege>"}


async def test_the_catalogs_say_the_same(reader: Reader) -> None:
    """Every relation, schema, function and role of the database, asked for any right whatever."""
    relations = await reader.rows(
        """
        select n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and case c.relkind
            when 'S' then has_schema_privilege(n.oid, 'usage')
                and has_sequence_privilege(c.oid, 'usage, select, update')
            when 'i' then false
            else has_schema_privilege(n.oid, 'usage') and (has_any_column_privilege(c.oid, 'select, insert, update')
                or has_table_privilege(c.oid, 'delete, truncate, references, trigger')) end
        """
    )
    assert {row["name"] for row in relations} == {view.qualified_name for view in VIEWS[reader.kind]}
    writable = "select nspname from pg_namespace where has_schema_privilege(oid, 'create')"
    assert await reader.rows(writable) == []
    usable = await reader.rows("select nspname from pg_namespace where has_schema_privilege(oid, 'usage')")
    assert {row["nspname"] for row in usable} == {VIEWS[reader.kind][0].schema, "pg_catalog", "information_schema"}
    definer = "select proname from pg_proc where prosecdef and has_function_privilege(oid, 'execute')"
    assert await reader.rows(definer) == []
    member = "select rolname from pg_roles where pg_has_role(oid, 'member') and rolname <> current_user"
    assert await reader.rows(member) == []
