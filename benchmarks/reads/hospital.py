"""A hospital's database of one size, and what its searches took."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import psutil
import sqlalchemy as sa
from emr_readmodel import engine, migrate
from emr_records.schemas import SearchIn
from emr_records.searching import SearchStore, plan_for, statement
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database

from benchmarks.reads.criteria import Known, searches
from benchmarks.reads.rows import OWNER, fill

CALLS_A_TURN = 10
NOT_COUNTED = 2
"""The first of a turn: the one before was another search, or another hospital's."""

EXPLAINED = 100


@dataclass
class Hospital:
    """``hits`` are all that the calls in ``taken_ms`` found."""

    known: Known
    pool: AsyncEngine
    taken_ms: dict[str, list[float]] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)

    async def turn(self, name: str, turn: int) -> None:
        store, dice, after = SearchStore(self.pool, OWNER), random.Random(f"{name} {turn}"), None
        make, taken = searches(self.known)[name], self.taken_ms.setdefault(name, [])
        body = make(dice)
        for call in range(NOT_COUNTED + CALLS_A_TURN):
            body = body.model_copy(update={"after": after}) if after and call % 3 == 0 else make(dice)
            began = time.perf_counter()
            found = await store.search(body, dice.choice(self.known.hmacs) if body.identifier else None)
            if call >= NOT_COUNTED:
                taken.append(1000 * (time.perf_counter() - began))
                self.hits[name] = self.hits.get(name, 0) + len(found.rows)
            after = found.next

    def times(self, name: str) -> tuple[float, float]:
        """Median and p99, in milliseconds."""
        taken = self.taken_ms[name]
        return statistics.median(taken), statistics.quantiles(taken, n=100)[98]

    async def costs(self, name: str) -> tuple[int, float, float]:
        """Pages of Postgres that a search touches, p99, and milliseconds to plan and to execute it, medians: what it
        costs whatever else the machine does.
        """
        dice, pages, planning, execution = random.Random(13), [], [], []
        for _ in range(EXPLAINED):
            body = searches(self.known)[name](dice)
            lines = await self._explain(body, dice.choice(self.known.hmacs), "timing off, format json")
            explained = lines[0][0]
            pages.append(explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"])
            planning.append(explained["Planning Time"])
            execution.append(explained["Execution Time"])
        return sorted(pages)[-2], statistics.median(planning), statistics.median(execution)

    async def plan(self, name: str) -> str:
        body = searches(self.known)[name](random.Random(12))
        lines = await self._explain(body, self.known.hmacs[0], "costs off, timing off, buffers off")
        return "\n".join(_indented(iter(lines)))

    async def _explain(self, body: SearchIn, identifier_hmac: bytes, options: str) -> list[Any]:
        query = statement(body, OWNER, identifier_hmac).compile(dialect=self.pool.dialect)
        given = [query.params[name] for name in query.positiontup or ()]
        async with self.pool.connect() as connection:
            await plan_for(connection, body)
            driver: Any = (await connection.get_raw_connection()).driver_connection
            return [row[0] for row in await driver.fetch(f"explain (analyze, {options}) {query}", *given)]

    async def memory(self) -> int:
        """MiB that are the own ones of the process that serves this hospital's searches."""
        async with self.pool.connect() as connection:
            pid = (await connection.scalars(sa.text("select pg_backend_pid()"))).one()
        return round(float(psutil.Process(pid).memory_full_info().uss) / 2**20)


def _indented(rows: Iterator[str]) -> Iterator[str]:
    return (f"    {row}" for row in rows if not row.strip().startswith(("Planning", "Index Searches")))


@asynccontextmanager
async def filled(server: PostgresServer, notes: int) -> AsyncIterator[Hospital]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        began = time.monotonic()
        connection = await asyncpg.connect(url, timeout=60, command_timeout=3600)
        await fill(connection, notes)
        known = await Known.of(connection, notes)
        await connection.execute("checkpoint")
        size = await connection.fetchval("select pg_size_pretty(pg_database_size(current_database()))")
        await connection.close()
        print(f"{notes} notes: {size}, made in {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
        pool = engine.create(url, 1)
        try:
            yield Hospital(known, pool)
        finally:
            await pool.dispose()
