"""Brings a database to the newest schema. ``python -m emr_readmodel.migrate URL_FILE`` does it from a shell."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from emr_readmodel import analytics, published, readers, shadows
from emr_readmodel.engine import async_url

MIGRATION_LOCK = 0x454D5201
"""Advisory lock under which migrations run: of two that start at once, the second finds nothing left to do."""

LOCK_TIMEOUT = "2s"
ATTEMPTS = 60
WAIT_SECONDS = 1.0
GIVES_WAY = ("55P03", "40P01")
"""SQLSTATE of a lock that was not had in time, and of two that wait for each other."""


async def upgrade(url: str | URL, *, role: str | None = None) -> None:
    """Runs the migrations that are missing and makes the views for readers anew, in one transaction, while others read
    and write: when somebody holds a table for long, it steps back, lets the others through and tries again. People who
    read for longer than ``readers.PATIENCE_SECONDS`` then lose their sessions.

    Needs a role that may create schemas in the database. ``role`` is taken on first (``set role``), so that it owns
    what is made.
    """
    engine = create_async_engine(async_url(url), poolclass=NullPool, hide_parameters=True)
    try:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                await _upgrade_at_once(engine, role)
                return
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in GIVES_WAY or not attempts_left:
                    raise
            async with engine.connect() as connection:
                await connection.execute(sa.text(readers.END.format(seconds=readers.PATIENCE_SECONDS)))
            await asyncio.sleep(WAIT_SECONDS)
    finally:
        await engine.dispose()


async def _upgrade_at_once(engine: AsyncEngine, role: str | None) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        if role is not None:
            await connection.execute(sa.text("select set_config('role', :role, true)"), {"role": role})
        await connection.execute(sa.text("select set_config('lock_timeout', :limit, true)"), {"limit": LOCK_TIMEOUT})
        await connection.run_sync(_upgrade)


def _upgrade(connection: sa.Connection) -> None:
    """Views go first and come back last: a migration may then change any column that they read."""
    for statement in (*published.drop_statements(), *analytics.drop_statements()):
        connection.execute(sa.text(statement))
    command.upgrade(configuration(connection), "head")
    made = (analytics, published, shadows, readers)
    for statement in (statement for each in made for statement in each.create_statements()):
        connection.execute(sa.text(statement.replace(":", r"\:")))


def newest() -> str:
    """The version to which an upgrade brings a database."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def configuration(connection: sa.Connection) -> Config:
    config = _config()
    config.attributes["connection"] = connection
    return config


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


if __name__ == "__main__":
    asyncio.run(upgrade(Path(sys.argv[1]).read_text().strip()))
