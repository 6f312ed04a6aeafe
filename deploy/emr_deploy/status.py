"""What `emr status` shows: every process and its health; each hospital's height and lag."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg

from emr_deploy.networks.base import NetworkStatus
from emr_deploy.process import Process
from emr_deploy.readiness import Readiness
from emr_deploy.supervisor import ProcessState
from emr_deploy.system import System

DATABASE_SECONDS = 5.0


@dataclass(frozen=True)
class ProcessReport:
    name: str
    state: str
    pid: int | None
    uptime_seconds: int | None
    port: int
    healthy: bool


@dataclass(frozen=True)
class HospitalReport:
    """`height` is the number of blocks that the hospital's peer has, None while it is stopped.

    `lag` is how many of them its read model lacks, None when one of the two cannot be asked.
    """

    name: str
    msp_id: str
    peer_running: bool
    height: int | None
    as_of_block: int | None
    lag: int | None


@dataclass(frozen=True)
class Report:
    processes: tuple[ProcessReport, ...]
    hospitals: tuple[HospitalReport, ...]
    calls: dict[str, int]

    @property
    def is_healthy(self) -> bool:
        """Whether every process does its work and every hospital's peer takes part. A read model may be behind."""
        return all(one.healthy for one in self.processes) and all(one.peer_running for one in self.hospitals)

    def as_dict(self) -> dict[str, Any]:
        return {"healthy": self.is_healthy, **asdict(self)}

    def process_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "process": one.name,
                "state": one.state.lower(),
                "health": "ok" if one.healthy else "not ready",
                "pid": one.pid or 0,
                "up": "" if one.uptime_seconds is None else f"{one.uptime_seconds} s",
                "port": one.port,
            }
            for one in self.processes
        ]

    def hospital_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "hospital": f"{one.name} ({one.msp_id})",
                "peer": "running" if one.peer_running else "stopped",
                "height": "" if one.height is None else one.height,
                "rows as of block": "" if one.as_of_block is None else one.as_of_block,
                "lag": "" if one.lag is None else one.lag,
            }
            for one in self.hospitals
        ]


async def status_of(system: System) -> Report:
    """Raises SupervisorFailed when nothing runs, NothingHere when there is no system."""
    processes = system.processes
    states = {one.name: one for one in system.supervisor.processes()}
    async with Readiness(system.home, system.ports) as readiness:
        reports = await asyncio.gather(
            *(_process(process, states.get(process.name), readiness) for process in processes)
        )
    network = await system.network.status()
    return Report(tuple(reports), tuple(await _hospitals(system, network)), network.calls)


async def _process(process: Process, state: ProcessState | None, readiness: Readiness) -> ProcessReport:
    is_running = state is not None and state.is_running
    return ProcessReport(
        process.name,
        "STOPPED" if state is None else state.state,
        state.pid or None if state is not None else None,
        int(time.time()) - state.started_at if state is not None and is_running else None,
        process.port,
        is_running and await readiness.check(process)(),
    )


async def _hospitals(system: System, network: NetworkStatus) -> list[HospitalReport]:
    reports = []
    for organization in system.topology.organizations:
        peers = network.of(organization.msp_id)
        height = max((peer.height for peer in peers if peer.height is not None), default=None)
        as_of_block = await as_of(system, organization.name)
        lag = None if height is None or as_of_block is None else height - 1 - as_of_block
        running = all(peer.running for peer in peers)
        reports.append(HospitalReport(organization.name, organization.msp_id, running, height, as_of_block, lag))
    return reports


async def as_of(system: System, organization: str) -> int | None:
    """The block up to which a hospital's rows are complete, -1 before the first; None if it cannot be asked."""
    url = system.home.secret(organization, "database-url")
    if not url.exists():
        return None
    try:
        connection = await asyncpg.connect(url.read_text(), timeout=DATABASE_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return None
    try:
        return await connection.fetchval("select coalesce(min(block), -1)::bigint from care.position")  # type: ignore[no-any-return]
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()
