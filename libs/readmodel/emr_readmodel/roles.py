"""Who may do what in a hospital's database.

Roles are of the whole cluster, so their names carry the hospital's short name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from emr_readmodel import analytics, care, hospital, migrate
from emr_readmodel.engine import async_url

_SHORT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Roles:
    """``owner`` owns the schema and cannot log in, ``service`` works with rows, ``analyst`` reads ``analytics``."""

    owner: str
    service: str
    analyst: str
    database: str

    @classmethod
    def of(cls, organization: str) -> Roles:
        """``organization`` is the hospital's short name, such as ``a``. Raises ValueError unless it is a plain name."""
        if not _SHORT_NAME.fullmatch(organization):
            raise ValueError("a hospital's short name has lower-case letters, digits and underscores")
        names = (f"emr_owner_{organization}", f"emr_service_{organization}", f"emr_analyst_{organization}")
        return cls(*names, database=f"care_{organization}")


async def provision(
    admin_url: str | URL, organization: str, *, service_password: str, analyst_password: str
) -> dict[str, URL]:
    """Creates or completes a hospital's database, schema, roles and grants, and sets both passwords. Repeatable.

    ``admin_url`` is a superuser's. Gives the URLs of ``service`` and ``analyst``.
    """
    roles = Roles.of(organization)
    await _create_roles_and_database(admin_url, roles, service_password, analyst_password)
    database_url = make_url(admin_url).set(database=roles.database)
    await migrate.upgrade(database_url, role=roles.owner)
    await _run(database_url, grants(roles))
    return {
        "service": database_url.set(username=roles.service, password=service_password),
        "analyst": database_url.set(username=roles.analyst, password=analyst_password),
    }


async def _create_roles_and_database(admin_url: str | URL, roles: Roles, service: str, analyst: str) -> None:
    engine = create_async_engine(async_url(admin_url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await _ensure_role(connection, roles.owner, None)
            await _ensure_role(connection, roles.service, service)
            await _ensure_role(connection, roles.analyst, analyst)
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
    yield f"grant connect on database {roles.database} to {roles.service}, {roles.analyst}"
    yield f"alter role {roles.analyst} set default_transaction_read_only = on"
    yield f"alter role {roles.analyst} set search_path = {analytics.SCHEMA}"
    yield f"alter role {roles.analyst} set statement_timeout = '60s'"
    yield f"alter role {roles.analyst} connection limit 20"


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
    for reader in (roles.service, roles.analyst):
        yield f"grant usage on schema {analytics.SCHEMA} to {reader}"
        yield f"grant select on all tables in schema {analytics.SCHEMA} to {reader}"
        yield (
            f"alter default privileges for role {roles.owner} in schema {analytics.SCHEMA}"
            f" grant select on tables to {reader}"
        )


async def _run(url: URL, statements: Iterator[str]) -> None:
    engine = create_async_engine(async_url(url), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()
