"""Locks by name across all instances of the service: Postgres advisory locks, all held by one connection a process.

They keep writers of one EMR from running into each other; what is right does not depend on them. A connection that
breaks loses its locks, and the ledger's version check then decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import asyncpg
import structlog
from emr_model.ledger.codes import Code
from sqlalchemy.engine import URL

from emr_common.problems import Problem

WAIT_SECONDS = 30.0
POLL_SECONDS = (0.004, 0.02)
CONNECT_SECONDS = 10.0
QUERY_SECONDS = 10.0
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


@dataclass
class _Local:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class AdvisoryLocks:
    """Has a connection of its own, whatever the number of locks and waiters: a pool that they shared with the work
    under the locks could run dry.

    Everything raises Problem DATABASE_UNAVAILABLE when the connection fails; the next call makes another.
    """

    def __init__(self, url: URL, space: str) -> None:
        """Names of other spaces are other names."""
        self._space = space
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._one_query = asyncio.Lock()
        self._local: dict[str, _Local] = {}

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: URL, space: str) -> AsyncIterator[Self]:
        locks = cls(url, space)
        try:
            yield locks
        finally:
            await locks.close()

    async def close(self) -> None:
        async with self._one_query:
            self._drop()

    @asynccontextmanager
    async def hold(self, name: str, wait_seconds: float = WAIT_SECONDS) -> AsyncIterator[None]:
        """Waits for its turn. Raises Problem OVERLOADED when it has not come in time."""
        give_up_at = time.monotonic() + wait_seconds
        async with self._turn_in_this_process(name, wait_seconds):
            while not await self._acquired(name):
                if time.monotonic() >= give_up_at:
                    raise Problem(Code.OVERLOADED, "too many writers to one record")
                await asyncio.sleep(random.uniform(*POLL_SECONDS))  # noqa: S311 - spreads the instances out
            try:
                yield
            finally:
                await self._release(name)

    @asynccontextmanager
    async def try_hold(self, name: str) -> AsyncIterator[bool]:
        """Whether the lock was free. Nobody else has it while the body runs."""
        if name in self._local:
            yield False
            return
        async with self._turn_in_this_process(name, WAIT_SECONDS):
            is_mine = await self._acquired(name)
            try:
                yield is_mine
            finally:
                if is_mine:
                    await self._release(name)

    @asynccontextmanager
    async def _turn_in_this_process(self, name: str, wait_seconds: float) -> AsyncIterator[None]:
        local = self._local.setdefault(name, _Local())
        local.users += 1
        try:
            await self._take(local, wait_seconds)
            try:
                yield
            finally:
                local.lock.release()
        finally:
            local.users -= 1
            if local.users == 0:
                del self._local[name]

    async def _take(self, local: _Local, wait_seconds: float) -> None:
        try:
            async with asyncio.timeout(wait_seconds):
                await local.lock.acquire()
        except TimeoutError:
            raise Problem(Code.OVERLOADED, "too many writers to one record") from None

    async def _acquired(self, name: str) -> bool:
        """A caller that goes away meanwhile leaves no lock behind, and no broken-off query, which would cost all."""
        query = asyncio.ensure_future(self._query("select pg_try_advisory_lock($1)", name))
        try:
            return await asyncio.shield(query)
        except asyncio.CancelledError:
            await asyncio.wait([query])
            if query.exception() is None and query.result():
                await self._release(name)
            raise

    async def _release(self, name: str) -> None:
        if self._connection is None:
            return  # it took its locks with it
        try:
            await asyncio.shield(self._query("select pg_advisory_unlock($1)", name))
        except Problem:
            log.warning("locks_lost")

    async def _query(self, statement: str, name: str) -> bool:
        async with self._one_query:
            try:
                connection = await self._connected()
                return bool(await connection.fetchval(statement, self._key(name), timeout=QUERY_SECONDS))
            except FAILURES as error:
                log.warning("lock_connection_failed", exc_info=error)
                self._drop()
                raise Problem(Code.DATABASE_UNAVAILABLE) from error
            except BaseException:
                self._drop()
                raise

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            settings = {"application_name": f"{self._space} locks"}
            self._connection = await asyncpg.connect(self._dsn, timeout=CONNECT_SECONDS, server_settings=settings)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _key(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._space}:{name}".encode()).digest()[:8], "big", signed=True)
