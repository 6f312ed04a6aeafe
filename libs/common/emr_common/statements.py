"""Statements that every request makes: a transaction each, compiled once, sent by the driver itself.

SQLAlchemy's own execution costs three to five times as much CPU. Tables, pool, failures and traces are the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import tracing

T = TypeVar("T")
Driver = Any
"""An ``asyncpg.Connection``."""

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Statement:
    """One round trip, durable when it returns. Its ``sa.bindparam`` are given as keywords, each by name, as the driver
    takes them: JSON as text.

    Everything raises as SQLAlchemy does: DBAPIError, a pool's TimeoutError, OSError.
    """

    def __init__(self, statement: sa.Select[Any] | sa.Insert | sa.Update | sa.Delete) -> None:
        compiled = statement.compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
        self._text = str(compiled)
        self._values = {name: compiled.params[name] for name in compiled.positiontup or ()}
        self._names = {bind.key for bind in compiled.bind_names if bind.required}
        self._operation = self._text.split(None, 1)[0]
        self._table: str | None = getattr(getattr(statement, "table", None), "fullname", None)

    async def row(self, engine: AsyncEngine, **given: Any) -> asyncpg.Record | None:
        """The first row, its values by the names of their columns."""
        return await self._send(engine, given, lambda driver, values: driver.fetchrow(self._text, *values))

    async def run(self, engine: AsyncEngine, **given: Any) -> int:
        """How many rows it has changed."""
        said = await self._send(engine, given, lambda driver, values: driver.execute(self._text, *values))
        return int(said.rpartition(" ")[2])

    async def _send(
        self, engine: AsyncEngine, given: dict[str, Any], send: Callable[[Driver, list[Any]], Awaitable[T]]
    ) -> T:
        assert given.keys() == self._names, "other names than the statement has"
        values = list((self._values | given).values())
        with tracing.statement(self._operation, self._table):
            return await self._sent(engine, lambda driver: send(driver, values))

    async def _sent(self, engine: AsyncEngine, send: Callable[[Driver], Awaitable[T]]) -> T:
        connection = await engine.raw_connection()
        driver = connection.driver_connection
        assert driver is not None
        try:
            return await send(driver)
        except FAILURES as error:
            raise DBAPIError(
                self._text, None, error, hide_parameters=True, connection_invalidated=driver.is_closed()
            ) from error
        except BaseException:  # broken off: what the server goes on to say would meet the next statement
            connection.invalidate()
            raise
        finally:
            connection.close()
