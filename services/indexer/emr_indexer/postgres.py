"""Waiting for a Postgres that fails, where giving up would help nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog
from hlf.backoff import jittered
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

PASSING_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58"})
"""SQLSTATE classes: connections, a transaction's state, conflicts, resources, locks, operators, the system."""

LONGEST_WAIT_SECONDS = 2.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


async def persistently(action: Callable[[], Awaitable[T]], on_failure: Callable[[], None] = lambda: None) -> T:
    """Repeats an action, which must be a whole transaction, while Postgres fails in a way that ends by itself.

    Raises everything else at once. ``on_failure`` is called before each wait.
    """
    waits = jittered(0.05, LONGEST_WAIT_SECONDS)
    while True:
        try:
            return await action()
        except Exception as error:
            if not may_pass(error):
                raise
            log.warning("database_failed", exc_info=error)
        on_failure()
        await asyncio.sleep(next(waits))


def may_pass(error: BaseException) -> bool:
    """Whether doing the same again may succeed, once Postgres is back, has room, or another transaction is done."""
    if isinstance(error, OSError | TimeoutError | PoolTimeout | asyncpg.InterfaceError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _is_passing(getattr(error.orig, "sqlstate", None))
    return isinstance(error, asyncpg.PostgresError) and _is_passing(error.sqlstate)


def _is_passing(sqlstate: str | None) -> bool:
    return sqlstate is not None and sqlstate[:2] in PASSING_CLASSES
