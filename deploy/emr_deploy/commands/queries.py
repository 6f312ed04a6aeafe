"""`emr sql`, `emr export`, `emr publish`: a hospital's Postgres as its services, its analysts or anybody may see it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import asyncpg
import typer
from emr_network.home import Home
from emr_readmodel import analytics, published
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from emr_deploy.callers import Unreachable
from emr_deploy.export import Format, export_views
from emr_deploy.output import AsJson, Output
from emr_deploy.postgres import URL_FILES, programs
from emr_deploy.system import NothingHere, System, UsageError

if TYPE_CHECKING:
    from emr_readmodel.releases import Release

Org = Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")]


class QueryFailed(Exception):
    """Postgres refused a query; the text is its own."""


def register(app: typer.Typer) -> None:
    for command in (sql, export, publish):
        app.command()(command)


def sql(
    org: Org,
    query: Annotated[str | None, typer.Argument(help="A query; without it psql starts.")] = None,
    analyst: Annotated[bool, typer.Option(help="As the hospital's analyst: schema analytics alone.")] = False,
    public: Annotated[bool, typer.Option(help="As anybody: schema published alone.")] = False,
    write: Annotated[bool, typer.Option(help="Let the query change rows, as the services may.")] = False,
    as_json: AsJson = False,
) -> None:
    """Query a hospital's Postgres. Rows are not changed unless it is said that they may be."""
    if analyst + public + write > 1:
        raise UsageError("--analyst, --public and --write exclude each other")
    url = role_url(System(Home.from_environment()), org, "analyst" if analyst else "public" if public else "service")
    if query is None:
        _psql(url, writes=write)
        return
    Output(as_json=as_json).rows(asyncio.run(fetch(url, query, writes=write)))


def export(
    folder: Annotated[Path, typer.Argument(help="Where the files go, one a view.")],
    org: Org,
    kind: Annotated[Format, typer.Option("--format", help="csv for spreadsheets, parquet for data frames.")] = (
        Format.PARQUET
    ),
    public: Annotated[bool, typer.Option(help="The published numbers instead of the analysts' rows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write what a hospital's analysts, or anybody, may read as files that stand for one moment."""
    views = published.VIEWS if public else analytics.VIEWS
    url = role_url(System(Home.from_environment()), org, "public" if public else "analyst")
    try:
        written = export_views(url, views, folder, kind)
    except asyncpg.PostgresError as error:
        raise QueryFailed(str(error)) from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be written, or Postgres does not answer: {error}") from error
    rows = [{"view": each.view, "rows": each.rows, "file": str(each.path)} for each in written]
    Output(as_json=as_json).rows(rows)


def role_url(system: System, org: str, role: str) -> str:
    """The URL by which a role enters a hospital's database. Raises NothingHere for a system that was not started."""
    file = next(name for name, owner in URL_FILES.items() if owner == role)
    path = system.home.secret(system.topology.organization(org).name, file)
    if not path.exists():
        raise NothingHere("there is no database yet: start the system with emr up")
    return path.read_text()


async def fetch(url: str, query: str, *, writes: bool = False) -> list[dict[str, Any]]:
    """Raises QueryFailed."""
    try:
        connection = await asyncpg.connect(url, timeout=10, server_settings=_settings(writes=writes))
    except OSError as error:
        raise Unreachable(f"Postgres does not answer: {error}") from error
    except asyncpg.PostgresError as error:
        raise QueryFailed(str(error)) from error
    try:
        statement = await connection.prepare(query)
        names = [column.name for column in statement.get_attributes()]
        if len(set(names)) < len(names):
            raise QueryFailed("two columns have the same name: give them names (as …)")
        return [dict(row) for row in await statement.fetch()]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, UnicodeError) as error:
        raise QueryFailed(str(error)) from error
    finally:
        await connection.close()


def _settings(*, writes: bool) -> dict[str, str]:
    return {"default_transaction_read_only": "off" if writes else "on"}


def _psql(url: str, *, writes: bool) -> None:
    program = shutil.which("psql") or str(programs() / "psql")
    sys.stdout.flush()
    # The URL holds a password, which a command line would show to every user of the machine.
    parts = make_url(url)
    where = {"PGUSER": parts.username, "PGPASSWORD": parts.password, "PGDATABASE": parts.database}
    where |= {"PGHOST": parts.host, "PGPORT": str(parts.port)}
    where["PGOPTIONS"] = " ".join(f"-c {name}={value}" for name, value in _settings(writes=writes).items())
    environment = {**os.environ, **{name: value for name, value in where.items() if value is not None}}
    os.execve(program, [program], environment)  # noqa: S606 - no shell is meant


def publish(org: Org, as_json: AsJson = False) -> None:
    """Refresh a hospital's published numbers now; otherwise it happens once a day."""
    system = System(Home.from_environment())
    url, msp_id = role_url(system, org, "service"), system.topology.organization(org).msp_id
    try:
        made = asyncio.run(_publish(url, msp_id))
    except OSError as error:
        raise Unreachable(f"Postgres does not answer: {error}") from error
    except SQLAlchemyError as error:
        raise QueryFailed(str(error)) from error
    if made is None:
        Output(as_json=as_json).result({"cells": 0}, "nothing to publish yet, or another refresh runs")
    else:
        said = f"{made.cells} additions, of the rows up to block {made.as_of_block}"
        Output(as_json=as_json).result({"cells": made.cells, "as_of_block": made.as_of_block}, said)


async def _publish(url: str, owner_msp: str) -> Release | None:
    from emr_readmodel import engine
    from emr_readmodel.releases import refresh

    pool = engine.create(url, 1)
    try:
        return await refresh(pool, owner_msp)
    finally:
        await pool.dispose()
