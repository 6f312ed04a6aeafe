"""A system of official programs for administration: three orderers, three hospitals; of the services only those that
take patients and notes at A and B. `emr network …` is called as an operator calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from emr_deploy.administrators import enter_administrators
from emr_deploy.callers import Callers
from emr_deploy.postgres import Postgres
from emr_deploy.process import Process, Stage
from emr_deploy.readiness import Readiness
from emr_deploy.system import System
from emr_network.home import Home
from support.otlp import OtlpReceiver
from support.stack import Stack
from support.topologies import fabric_topology
from support.webhook_receiver import Receiver

SERVICES = ("registration", "records")
WRITERS = 4


class Administered(Stack):
    """`stack` as far as it goes without Kafka; A's healthcenter and physicians, and one patient for each writer."""

    async def leader(self) -> str:
        """The orderer that leads, such as `orderer-2`."""
        async with httpx.AsyncClient(trust_env=False) as http:
            for number in range(1, self.system.topology.orderer.nodes + 1):
                address = self.system.ports.address(f"orderer-{number}-operations")
                try:
                    metrics = (await http.get(f"http://{address}/metrics")).text
                except httpx.HTTPError:
                    continue
                if 'consensus_etcdraft_is_leader{channel="care"} 1' in metrics:
                    return f"orderer-{number}"
        raise AssertionError("no orderer leads")


@asynccontextmanager
async def administered(
    root: Path, *, hospitals: int = 3, orderers: int = 3, peers: int = 1
) -> AsyncIterator[Administered]:
    """`peers` are those of each hospital. Raises ProgramsMissing."""
    system = System(Home(root))
    topology = fabric_topology(root, hospitals=hospitals, orderers=orderers, peers=peers)
    system.prepare(free_ports=True, topology=topology, ledger="fabric")
    try:
        await _start(system)
        async with Callers(system.home, system.ports) as callers:
            yield Administered(system, callers, OtlpReceiver(""), Receiver(root))
    finally:
        await asyncio.to_thread(system.down)


async def _start(system: System) -> None:
    postgres = Postgres(system.home, system.ports)
    await asyncio.to_thread(postgres.prepare)
    system.supervise()
    async with Readiness(system.home, system.ports) as readiness:
        base = [one for one in system.processes if one.stage is Stage.NETWORK or one.name in {"postgres", "issuer"}]
        await _launch(system, readiness, base)
        await system.found_network()
        await postgres.make_databases(system.topology)
        await enter_administrators(system.home, system.topology, system.ports)
        services = [one for one in system.processes if one.service in SERVICES and one.organization in {"a", "b"}]
        await _launch(system, readiness, services)


async def _launch(system: System, readiness: Readiness, processes: list[Process]) -> None:
    await asyncio.to_thread(system.supervisor.launch, [one.name for one in processes])
    await readiness.wait(processes, lambda _: None)
