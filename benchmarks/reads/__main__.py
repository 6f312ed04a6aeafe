"""``make bench-reads`` (READS_NOTES="1000 100000 1000000"): p50 and p99 of each search, blocks it touches, its plan.

Searches run through ``SearchStore``, as the service's handler calls it, one at a time; criteria change with every call,
taken from the rows, and every third call asks for a second page. HTTP, tokens and the access log are left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from emr_readmodel import engine, migrate
from emr_records.schemas import SearchIn
from emr_records.searching import SearchStore, statement
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database, postgres_server

from benchmarks.reads.rows import OWNER, Vocabulary, fill

CALLS = int(os.environ.get("READS_CALLS", "400"))
Make = Callable[[random.Random], SearchIn]


def searches(known: list[dict[str, Any]]) -> dict[str, Make]:
    """Criteria that meet something, by name."""
    words = Vocabulary()

    def code(dice: random.Random, codes: list[str], *, is_frequent: bool) -> str:
        return codes[dice.randrange(3)] if is_frequent else codes[dice.randrange(100, len(codes))]

    def months(dice: random.Random, length: int) -> dict[str, date]:
        first = date(2016, 1, 1) + timedelta(days=dice.randrange(3500))
        return {"visited_from": first, "visited_to": first + timedelta(days=length)}

    return {
        "family name": lambda dice: SearchIn(family_name=dice.choice(known)["family_name"][:5]),
        "given name": lambda dice: SearchIn(given_name=dice.choice(known)["given_names"][:5]),
        "birth date": lambda dice: SearchIn(birth_date=dice.choice(known)["birth_date"]),
        "condition, frequent": lambda dice: SearchIn(condition_code=code(dice, words.conditions, is_frequent=True)),
        "condition, rare": lambda dice: SearchIn(condition_code=code(dice, words.conditions, is_frequent=False)),
        "medication, frequent": lambda dice: SearchIn(medication_code=code(dice, words.medications, is_frequent=True)),
        "visits of 30 days": lambda dice: SearchIn(**months(dice, 30)),
        "condition and 365 days": lambda dice: SearchIn(
            condition_code=code(dice, words.conditions, is_frequent=True),
            **months(dice, 365),
        ),
        "word, frequent": lambda dice: SearchIn(text=words.words[dice.randrange(5)]),
        "word, rare": lambda dice: SearchIn(text=words.words[dice.randrange(2000, len(words.words))]),
        "two words": lambda dice: SearchIn(text=" ".join(words.pick(words.words, 2))),
        "name and condition": lambda dice: SearchIn(
            family_name=dice.choice(known)["family_name"][:2],
            condition_code=code(dice, words.conditions, is_frequent=True),
        ),
    }


async def main() -> None:
    sizes = [int(size) for size in os.environ.get("READS_NOTES", "1000 100000 1000000").split()]
    with postgres_server() as server:
        for size in sizes:
            async with empty_database(server) as url:
                await _measure(server, url, size)


async def _measure(server: PostgresServer, url: str, notes: int) -> None:
    await migrate.upgrade(url)
    began = time.monotonic()
    connection = await asyncpg.connect(url, timeout=60, command_timeout=3600)
    await fill(connection, notes)
    columns = "emr_id, family_name, given_names, birth_date"
    known = [dict(row) for row in await connection.fetch(f"select {columns} from care.emr order by emr_id limit 500")]
    hmacs = [
        row[0] for row in await connection.fetch("select identifier_hmac from hospital.patient_identifier limit 500")
    ]
    size = await connection.fetchval("select pg_size_pretty(pg_database_size(current_database()))")
    await connection.close()
    print(f"\n## {notes} notes: {size}, made in {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    pool = engine.create(url, 2)
    try:
        for name, make in {**searches(known), "identifier": _identifier}.items():
            measured = {**await _times(pool, make, hmacs), "p99_blocks": await _blocks(pool, make, hmacs)}
            print(json.dumps({"notes": notes, "search": name, **measured}), flush=True)
            if "--plans" in sys.argv:
                print(await _plan(pool, make, hmacs))
        print(json.dumps({"notes": notes, "memory_mb": _memory(server)}))
    finally:
        await pool.dispose()


def _identifier(_: random.Random) -> SearchIn:
    return SearchIn.model_validate({"identifier": {"system": "s", "value": "v"}})


async def _times(pool: AsyncEngine, make: Make, hmacs: list[bytes]) -> dict[str, float]:
    store, dice, taken, hits = SearchStore(pool, OWNER), random.Random(11), [], 0
    after: str | None = None
    body = make(dice)
    for call in range(CALLS + 20):
        body = body.model_copy(update={"after": after}) if after and call % 3 == 0 else make(dice)
        began = time.perf_counter()
        found = await store.search(body, dice.choice(hmacs) if body.identifier else None)
        taken.append(1000 * (time.perf_counter() - began))
        after, hits = found.next, hits + len(found.rows)
    kept = taken[20:]
    return {
        "p50_ms": round(statistics.median(kept), 2),
        "p99_ms": round(statistics.quantiles(kept, n=100)[98], 2),
        "hits": round(hits / len(taken), 1),
    }


async def _blocks(pool: AsyncEngine, make: Make, hmacs: list[bytes]) -> int:
    """Pages of Postgres that a search touches, p99: what it costs whatever else the machine does."""
    dice, touched = random.Random(13), []
    for _ in range(100):
        explained: Any = (await _explain(pool, make(dice), dice.choice(hmacs), "buffers, format json"))[0]
        plan = explained[0]["Plan"]
        touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return int(sorted(touched)[98])


async def _plan(pool: AsyncEngine, make: Make, hmacs: list[bytes]) -> str:
    lines = await _explain(pool, make(random.Random(12)), hmacs[0], "costs off, timing off, buffers off")
    return "\n".join(_lines(iter(lines)))


async def _explain(pool: AsyncEngine, body: SearchIn, identifier_hmac: bytes, options: str) -> list[Any]:
    query = statement(body, OWNER, identifier_hmac).compile(dialect=pool.dialect)
    given = [query.params[name] for name in query.positiontup or ()]
    async with pool.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        return [row[0] for row in await driver.fetch(f"explain (analyze, {options}) {query}", *given)]


def _lines(rows: Iterator[str]) -> Iterator[str]:
    return (f"    {row}" for row in rows if not row.strip().startswith(("Planning", "Index Searches")))


def _memory(server: PostgresServer) -> dict[str, float]:
    """This process at its most, and the server's processes now, their shared pages counted once each."""
    assert server.process is not None
    main_process = psutil.Process(server.process.pid)
    family = [main_process, *main_process.children(recursive=True)]
    return {
        "client_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "server_private": round(sum(each.memory_full_info().uss for each in family) / 2**20),
    }


if __name__ == "__main__":
    assert Path("benchmarks").is_dir(), "run it from the checkout"
    asyncio.run(main())
