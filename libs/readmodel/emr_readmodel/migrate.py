"""Brings a database to the newest schema. ``python -m emr_readmodel.migrate URL_FILE`` does it from a shell."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from emr_readmodel import analytics, published
from emr_readmodel.engine import async_url

MIGRATION_LOCK = 0x454D5201
"""Advisory lock under which migrations run: of two that start at once, the second finds nothing left to do."""


async def upgrade(url: str | URL, *, role: str | None = None) -> None:
    """Runs the migrations that are missing and makes the views for readers anew, in one transaction.

    Needs a role that may create schemas in the database. ``role`` is taken on first (``set role``), so that it owns
    what is made.
    """
    engine = create_async_engine(async_url(url), poolclass=NullPool, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            if role is not None:
                await connection.execute(sa.text("select set_config('role', :role, true)"), {"role": role})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection) -> None:
    """Views go first and come back last: a migration may then change any column that they read."""
    for statement in (*published.drop_statements(), *analytics.drop_statements()):
        connection.execute(sa.text(statement))
    command.upgrade(configuration(connection), "head")
    for statement in (*analytics.create_statements(), *published.create_statements()):
        connection.execute(sa.text(statement.replace(":", r"\:")))


def configuration(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


if __name__ == "__main__":
    asyncio.run(upgrade(Path(sys.argv[1]).read_text().strip()))
