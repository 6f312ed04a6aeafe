"""Notes through the HTTP API on devnet: how many a second, how long one takes to its block and to its row.

    python -m benchmarks.notes [--clients 32] [--seconds 15]

Starts a system of its own on free ports and takes it down again. Every client is a connection that posts typed notes to
an EMR of its own, one after the other; milliseconds to commit are those of the whole HTTP request. Milliseconds to the
row are measured one note at a time, from the answer until the hospital's Postgres has the row.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
from emr_deploy.bundles import admit, make_histories
from emr_deploy.callers import Callers
from emr_deploy.system import System
from emr_network.enrolment import ADMIN
from emr_network.home import Home

HOSPITAL = "a"
ALONE = 30
ROW_SECONDS = 10.0
TEXT = "Seen today. " + "Blood pressure is well controlled; treatment goes on unchanged. " * 20


@dataclass(frozen=True)
class Ward:
    """The staff and the EMRs that notes go to."""

    callers: Callers
    physician: str
    emr_ids: Sequence[str]

    async def add_note(self, emr_id: str) -> tuple[float, int]:
        """Seconds to the commit, and the note's version."""
        started = time.perf_counter()
        path = f"/emrs/{emr_id}/notes"
        answer = await self.callers.call(HOSPITAL, self.physician, "records", "POST", path, {"text": TEXT})
        return time.perf_counter() - started, int(answer.required()["version"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="emr-bench-"))
    system = System(Home(root))
    try:
        system.prepare(free_ports=True)
        asyncio.run(_measure(system, arguments.clients, arguments.seconds))
    finally:
        system.down()
        shutil.rmtree(root)


async def _measure(system: System, clients: int, seconds: float) -> None:
    await system.up()
    async with Callers(system.home, system.ports) as callers:
        ward = await _open_ward(callers, clients)
        await asyncio.gather(*(ward.add_note(emr_id) for emr_id in ward.emr_ids))
        commits, rows = await _alone(system, ward)
        latencies, took = await _together(ward, seconds)
    print()
    print(f"notes a second, {clients} clients       {len(latencies) / took:8.1f}")
    print(f"ms to commit, {clients} clients         {_spread(latencies)}")
    print(f"ms to commit, one at a time     {_spread(commits)}")
    print(f"ms from commit to row           {_spread(rows)}")
    print(f"MB of memory, all processes     {_memory(system):8.0f}")


async def _open_ward(callers: Callers, patients: int) -> Ward:
    for role in ("healthcenter", "physician"):
        body = {"subject": role, "role": role}
        (await callers.call(HOSPITAL, ADMIN, "registration", "POST", "/staff", body)).required()
    bundles = enumerate(make_histories(patients, seed=1))
    admitted = [await admit(callers, HOSPITAL, "healthcenter", f"patient-{n}", bundle) for n, bundle in bundles]
    return Ward(callers, "physician", [one.emr_id for one in admitted])


async def _together(ward: Ward, seconds: float) -> tuple[list[float], float]:
    """Latencies of all notes, and the seconds that they took together."""
    started = time.perf_counter()
    latencies: list[float] = []

    async def client(emr_id: str) -> None:
        while time.perf_counter() < started + seconds:
            latencies.append((await ward.add_note(emr_id))[0])

    await asyncio.gather(*(client(emr_id) for emr_id in ward.emr_ids))
    return latencies, time.perf_counter() - started


async def _alone(system: System, ward: Ward) -> tuple[list[float], list[float]]:
    """Seconds to commit and from there to the row, with nothing else going on."""
    commits, rows = [], []
    url = system.home.secret(HOSPITAL, "database-url").read_text()
    connection = await asyncpg.connect(url)
    try:
        for number in range(ALONE):
            emr_id = ward.emr_ids[number % len(ward.emr_ids)]
            committed, version = await ward.add_note(emr_id)
            commits.append(committed)
            rows.append(await _until_row(connection, emr_id, version))
    finally:
        await connection.close()
    return commits, rows


async def _until_row(connection: asyncpg.Connection[asyncpg.Record], emr_id: str, version: int) -> float:
    started = time.perf_counter()
    query = await connection.prepare("select 1 from care.note where emr_id = $1 and version = $2")
    while await query.fetchval(emr_id, version) is None:
        if time.perf_counter() > started + ROW_SECONDS:
            raise TimeoutError("the note has not become a row")
        await asyncio.sleep(0.001)
    return time.perf_counter() - started


def _spread(seconds: Sequence[float]) -> str:
    ordered = sorted(1000 * one for one in seconds)
    high = ordered[int(len(ordered) * 0.95)]
    return f"{statistics.median(ordered):8.1f} median  {high:8.1f} 95th  {ordered[-1]:8.1f} most"


def _memory(system: System) -> float:
    """Pages that processes share are divided among them, where the kernel tells (proportional set size)."""
    pids = [one.pid for one in system.supervisor.processes() if one.pid]
    parents = [psutil.Process(pid) for pid in pids]
    members = [member for parent in parents for member in (parent, *parent.children(recursive=True))]
    sizes = [member.memory_full_info() for member in members]
    return sum(float(getattr(size, "pss", size.rss)) for size in sizes) / 2**20


if __name__ == "__main__":
    main()
