"""``make bench-reads`` (READS_NOTES="1000 100000 1000000"): how long each search takes, by the size of the hospital.

Searches run through ``SearchStore``, as the service's handler calls it, one at a time; criteria change with every call,
taken from the rows, and every third call asks for a second page. Searches and sizes take turns, so that a busy moment
hits all. HTTP, tokens and the access log are left out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
from support.postgres import postgres_server

from benchmarks.reads.criteria import searches
from benchmarks.reads.hospital import CALLS_A_TURN, Hospital, filled

CALLS = int(os.environ.get("READS_CALLS", "600"))
SETTINGS = ("jit=off", "shared_buffers=512MB")
"""Of Postgres: what deploy sets, and a quarter of the memory of a small machine."""


async def main() -> None:
    sizes = [int(size) for size in os.environ.get("READS_NOTES", "1000 100000 1000000").split()]
    with postgres_server(SETTINGS) as server:
        async with AsyncExitStack() as stack:
            hospitals = [await stack.enter_async_context(filled(server, size)) for size in sizes]
            await _measure(hospitals)


async def _measure(hospitals: list[Hospital]) -> None:
    names, before = list(searches(hospitals[0].known)), _own_memory()
    for turn in range(CALLS // CALLS_A_TURN):
        for hospital in hospitals:
            for name in names:
                await hospital.turn(name, turn)
    after = _own_memory()
    print(f"\nMilliseconds of {CALLS} searches, median and p99; load {os.getloadavg()[0]:.1f}\n")
    _print_row("Search", [f"{hospital.known.notes:,} notes" for hospital in hospitals], "grows", "hits a page")
    _print_row("---", ["---" for _ in hospitals], "---", "---")
    for name in names:
        times = [hospital.times(name) for hospital in hospitals]
        hits = ", ".join(f"{hospital.hits[name] / CALLS:.1f}" for hospital in hospitals)
        _print_row(name, [f"{p50:.1f}, {p99:.1f}" for p50, p99 in times], f"{times[-1][1] / times[0][1]:.1f}", hits)
    print(
        "\nPages of Postgres that a search touches (p99 of 100), and its milliseconds to plan + to execute (median)\n"
    )
    _print_row("Search", [f"{hospital.known.notes:,} notes" for hospital in hospitals])
    _print_row("---", ["---" for _ in hospitals])
    for name in names:
        costs = [await hospital.costs(name) for hospital in hospitals]
        _print_row(name, [f"{pages}, {planning:.2f} + {execution:.2f}" for pages, planning, execution in costs])
    servers = ", ".join([str(await hospital.memory()) for hospital in hospitals])
    print(f"\nMemory in MiB: the server's process {servers}; this process {before} before the searches, {after} after")
    if "--plans" in sys.argv:
        for name in names:
            print(f"\n{name}\n{await hospitals[-1].plan(name)}")


def _print_row(first: str, columns: Iterable[str], *more: str) -> None:
    print("|", " | ".join([first, *columns, *more]), "|", flush=True)


def _own_memory() -> int:
    return round(float(psutil.Process().memory_info().rss) / 2**20)


if __name__ == "__main__":
    assert Path("benchmarks").is_dir(), "run it from the checkout"
    asyncio.run(main())
