"""How every process reaches its hospital's Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

STATEMENT_SECONDS = 30
PATIENT_SECONDS = 1800
SILENT_SECONDS = 10
"""How much longer the server may say nothing at all before a statement is given up."""


def create(
    url: str | URL,
    pool_size: int = 10,
    *,
    application_name: str = "careledger",
    statement_seconds: int = STATEMENT_SECONDS,
) -> AsyncEngine:
    """A pool of at most ``pool_size`` connections, opened when needed. Any ``postgresql…://`` URL is taken.

    A query whose caller went away ends in the server within a second (``client_connection_check_interval``); every
    query ends after 30 s, or as many as given, and is given up 10 s later when the server says nothing at all; times
    come back in UTC.

    A connection that the server has closed is replaced before it is used. Nothing is asked for that: the question
    would cost three round trips a query.
    """
    engine = create_async_engine(
        async_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,
        connect_args={
            "timeout": 10,
            "command_timeout": float(statement_seconds + SILENT_SECONDS),
            "server_settings": {
                "application_name": application_name,
                "timezone": "UTC",
                "statement_timeout": f"{statement_seconds}s",
                "client_connection_check_interval": "1000",
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _require_open)
    return engine


@asynccontextmanager
async def patient(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """One more connection to the same database, whose statements may take half an hour."""
    made = create(engine.url, 1, statement_seconds=PATIENT_SECONDS)
    try:
        yield made
    finally:
        await made.dispose()


def _require_open(connection: Any, *_: object) -> None:
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server has closed the connection")


def async_url(url: str | URL) -> URL:
    """The same database through asyncpg."""
    return make_url(url).set(drivername="postgresql+asyncpg")
