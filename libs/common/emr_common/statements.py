"""Statements that every request makes: a transaction each, compiled once, sent by the driver itself.

SQLAlchemy's own execution costs three to five times as much CPU. Tables, pool, failures and traces are the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection

from emr_common import tracing

T = TypeVar("T")
Driver = Any
"""An ``asyncpg.Connection``."""

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Statement:
    """One round trip, durable when it returns. Its ``sa.bindparam`` are given as keywords, each by name, as the driver
    takes them: JSON as text, which comes back as what it means.

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
            return await _at_hand(engine).run(engine, self._text, lambda driver: send(driver, values))


class _AtHand:
    """Connections of an engine's pool, up to half of it, that are not given back after each statement: that, and to
    check them out again, would cost twice as much as the statement.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._idle: list[tuple[PoolProxiedConnection, Driver]] = []
        self._most = engine.pool.size() // 2  # type: ignore[attr-defined]
        event.listen(engine.sync_engine, "engine_disposed", self._end)

    async def run(self, engine: AsyncEngine, text: str, send: Callable[[Driver], Awaitable[T]]) -> T:
        taken, driver = self._open() or await _connected(engine, text)
        try:
            answer = await send(driver)
        except FAILURES as error:
            self._give_back(taken, driver)
            is_closed = driver.is_closed()
            raise DBAPIError(text, None, error, hide_parameters=True, connection_invalidated=is_closed) from error
        except BaseException:  # broken off: what the server goes on to say would meet the next statement
            taken.invalidate()
            taken.close()
            raise
        self._give_back(taken, driver)
        return answer

    def _open(self) -> tuple[PoolProxiedConnection, Driver] | None:
        while self._idle:
            taken, driver = self._idle.pop()
            if not driver.is_closed():
                return taken, driver
            taken.close()
        return None

    def _give_back(self, taken: PoolProxiedConnection, driver: Driver) -> None:
        if len(self._idle) < self._most:
            self._idle.append((taken, driver))
        else:
            taken.close()

    def _end(self, *_: object) -> None:
        while self._idle:
            self._idle.pop()[0].invalidate()


async def _connected(engine: AsyncEngine, text: str) -> tuple[PoolProxiedConnection, Driver]:
    """From the pool, which lets through what the driver says when Postgres turns a new connection away."""
    try:
        taken = await engine.raw_connection()
    except engine.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(text, None, error, hide_parameters=True) from error
    return taken, taken.driver_connection


_of_engines: WeakKeyDictionary[AsyncEngine, _AtHand] = WeakKeyDictionary()


def _at_hand(engine: AsyncEngine) -> _AtHand:
    found = _of_engines.get(engine)
    if found is None:
        found = _of_engines[engine] = _AtHand(engine)
    return found
