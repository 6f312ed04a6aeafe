"""Who may do what in a hospital's database.

Roles are of the whole cluster, so their names carry the hospital's short name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from emr_readmodel import analytics, care, hospital, migrate, published, readers, shadows
from emr_readmodel.engine import async_url

_SHORT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Roles:
    """``owner`` owns the schema and cannot log in, ``service`` works with rows, ``analyst`` reads ``analytics``,
    ``public`` reads ``published``.
    """

    owner: str
    service: str
    analyst: str
    public: str
    database: str

    @classmethod
    def of(cls, organization: str) -> Roles:
        """``organization`` is the hospital's short name, such as ``a``. Raises ValueError unless it is a plain name."""
        if not _SHORT_NAME.fullmatch(organization):
            raise ValueError("a hospital's short name has lower-case letters, digits and underscores")
        named = {kind: f"emr_{kind}_{organization}" for kind in ("owner", "service", "analyst", "public")}
        return cls(**named, database=f"care_{organization}")

    @property
    def readers(self) -> dict[str, str]:
        """The schema that each role of people may read, by role."""
        return {self.analyst: analytics.SCHEMA, self.public: published.SCHEMA}


async def provision(
    admin_url: str | URL, organization: str, *, service_password: str, analyst_password: str, public_password: str
) -> dict[str, URL]:
    """Creates or completes a hospital's database, schema, roles and grants, and sets the passwords. Repeatable.

    ``admin_url`` is a superuser's. Gives the URLs of ``service``, ``analyst`` and ``public``.
    """
    roles = Roles.of(organization)
    passwords = {roles.service: service_password, roles.analyst: analyst_password, roles.public: public_password}
    await _create_roles_and_database(admin_url, roles, passwords)
    database_url = make_url(admin_url).set(database=roles.database)
    await migrate.upgrade(database_url, role=roles.owner)
    await _run(database_url, grants(roles))
    names = {"service": roles.service, "analyst": roles.analyst, "public": roles.public}
    return {name: database_url.set(username=role, password=passwords[role]) for name, role in names.items()}


async def _create_roles_and_database(admin_url: str | URL, roles: Roles, passwords: Mapping[str, str]) -> None:
    engine = create_async_engine(async_url(admin_url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await _ensure_role(connection, roles.owner, None)
            for role, password in passwords.items():
                await _ensure_role(connection, role, password)
            query = sa.text("select 1 from pg_database where datname = :name")
            if not await connection.scalar(query, {"name": roles.database}):
                await connection.execute(sa.text(f"create database {roles.database} owner {roles.owner}"))
            for statement in _cluster_grants(roles):
                await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()


async def _ensure_role(connection: AsyncConnection, name: str, password: str | None) -> None:
    if not await connection.scalar(sa.text("select 1 from pg_roles where rolname = :name"), {"name": name}):
        await connection.execute(sa.text(f"create role {name} nosuperuser nocreatedb nocreaterole noinherit"))
    if password is not None:
        quoted = await connection.scalar(sa.text("select quote_literal(:password)"), {"password": password})
        await connection.execute(sa.text(f"alter role {name} login password {quoted}".replace(":", r"\:")))


def _cluster_grants(roles: Roles) -> Iterator[str]:
    for database in (roles.database, "postgres", "template1"):
        yield f"revoke all on database {database} from public"
    yield f"grant connect on database {roles.database} to {roles.service}, {', '.join(roles.readers)}"
    for role, schema in roles.readers.items():
        yield f"alter role {role} reset all"  # a role may change its own settings
        yield f"alter role {role} set default_transaction_read_only = on"
        yield f"alter role {role} set search_path = {schema}"
        yield f"alter role {role} set statement_timeout = '60s'"
        yield f"alter role {role} set idle_in_transaction_session_timeout = '60s'"
        yield f"alter role {role} set temp_file_limit = '2GB'"  # this one no reader may change
        yield f"alter role {role} connection limit 20"
        yield f"grant {role} to {roles.owner} with inherit true, set false"


def grants(roles: Roles) -> Iterator[str]:
    """Run in the hospital's database by a superuser. Later tables and views of the owner fall under them too."""
    yield "revoke all on schema public from public"
    for schema in (hospital.SCHEMA, care.SCHEMA):
        yield f"grant usage on schema {schema} to {roles.service}"
        yield f"grant select, insert, update, delete on all tables in schema {schema} to {roles.service}"
        yield f"grant usage on all sequences in schema {schema} to {roles.service}"
        defaults = f"alter default privileges for role {roles.owner} in schema {schema}"
        yield f"{defaults} grant select, insert, update, delete on tables to {roles.service}"
        yield f"{defaults} grant usage on sequences to {roles.service}"
    for reader, schema in (
        (roles.service, analytics.SCHEMA),
        (roles.service, published.SCHEMA),
        *roles.readers.items(),
    ):
        yield f"grant usage on schema {schema} to {reader}"
        yield f"grant select on all tables in schema {schema} to {reader}"
        yield f"alter default privileges for role {roles.owner} in schema {schema} grant select on tables to {reader}"
    for signature in (*shadows.SIGNATURES, readers.SIGNATURE):
        yield f"grant execute on function {signature} to {roles.service}"
    yield _functions_of_services(roles)
    yield from _numbers_of_rows(roles)


def _functions_of_services(roles: Roles) -> str:
    """Takes functions from everybody. Those by which a reader could leave something behind or hold services up: large
    objects, messages, and advisory locks, by which the services take turns and which stay theirs. And those that tell
    of each table how many rows it has and had: nobody is to count patients by what may leave the house.
    """
    counted = f"{roles.owner}, {roles.service}, {roles.analyst}, pg_monitor"
    return f"""
        do $$
        declare taken record;
        begin
            for taken in
                select oid::regprocedure as function, case
                    when proname ~ 'advisory' then '{roles.owner}, {roles.service}'
                    when proname ~ '^pg_stat_get_|_size$' then '{counted}' end as stays_with
                from pg_proc
                where pronamespace = 'pg_catalog'::regnamespace and (
                    proname ~ '^lo_|^loread$|^lowrite$|advisory|^pg_notify$|^pg_logical_emit_message$'
                    or proname ~ '^pg_stat_get_' and proargtypes[0] = 'oid'::regtype
                    or proname ~ '^pg_(table|indexes|relation|total_relation)_size$')
            loop
                execute format('revoke execute on function %s from public', taken.function);
                if taken.stays_with is not null then
                    execute format('grant execute on function %s to ' || taken.stays_with, taken.function);
                end if;
            end loop;
        end $$
    """


def _numbers_of_rows(roles: Roles) -> Iterator[str]:
    """Postgres's own count of a table's rows is for everybody but the role of what may leave the house."""
    yield "revoke select on pg_catalog.pg_class from public"
    yield f"grant select on pg_catalog.pg_class to {roles.owner}, {roles.service}, {roles.analyst}, pg_monitor"
    yield f"""
        do $$
        begin
            execute (
                select format('grant select (%s) on pg_catalog.pg_class to {roles.public}', string_agg(attname, ', '))
                from pg_attribute
                where attrelid = 'pg_catalog.pg_class'::regclass and attname !~ '^relpages$|^reltuples$|^relall'
            );
        end $$
    """


async def _run(url: URL, statements: Iterator[str]) -> None:
    engine = create_async_engine(async_url(url), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()
