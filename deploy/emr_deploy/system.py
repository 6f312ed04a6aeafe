"""A whole system of one EMR_HOME: made, started in order, stopped, taken apart. State survives a stop."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from aiokafka.admin import NewTopic
from emr_network.enrolment import Enrolment
from emr_network.fabric.programs import Programs
from emr_network.home import TOPOLOGY, Home
from emr_network.material import make_material
from emr_network.organizations import register_organizations, settle
from emr_network.ports import Ports
from emr_network.topology import Ledger, Organization, Topology, load, save

from emr_deploy.administration.underway import underway
from emr_deploy.compose.deliver import Delivery
from emr_deploy.kafka import Kafka
from emr_deploy.networks.base import LedgerNetwork
from emr_deploy.postgres import Postgres
from emr_deploy.process import Process, Stage
from emr_deploy.programs import SCALABLE, network_of, processes
from emr_deploy.readiness import Readiness, Say
from emr_deploy.secrets import make_secrets
from emr_deploy.supervisor import Supervisor
from emr_deploy.topics import topics

MOST_INSTANCES = 9
DEMO = "demo"
"""The folder of EMR_HOME in which `emr demo` has a home of its own."""


class NothingHere(Exception):
    """EMR_HOME holds no system yet."""


class UsageError(Exception):
    """What is asked for cannot be meant."""


class System:
    """The system of `home`. `say` gets one line for each thing that was done."""

    def __init__(self, home: Home, say: Say = print) -> None:
        self.home = home
        self.supervisor = Supervisor(home)
        self._say = say

    @property
    def topology(self) -> Topology:
        """Raises NothingHere."""
        if not self.home.topology.exists():
            raise NothingHere(f"{self.home.root} holds no system yet: start one with emr up")
        return load(self.home.topology)

    @property
    def ports(self) -> Ports:
        return Ports.plan(self.home.ports, self.topology)

    @property
    def processes(self) -> list[Process]:
        return processes(self.home, self.topology, self.ports, self._instances, underway(self.home))

    @property
    def network(self) -> LedgerNetwork:
        return network_of(self.home, self.topology, self.ports, self._say)

    def prepare(self, *, free_ports: bool = False, topology: Path = TOPOLOGY, ledger: Ledger | None = None) -> None:
        """Makes everything that can be made before a process runs; what is there stays.

        `ledger` is chosen the first time. Raises PortTaken, TopologyError, UsageError, ProgramsMissing."""
        if ledger == "fabric" and not self.home.topology.exists():
            Programs.find()
        self.make(free_ports=free_ports, topology=topology, ledger=ledger)
        if not self.supervisor.is_running():
            if left := self.supervisor.end_orphans():
                self._say(f"ended  {left} processes that a supervisor, killed itself, had left behind")
            self.ports.require_unused()
        self.network.prepare()

    def make(self, *, free_ports: bool = False, topology: Path = TOPOLOGY, ledger: Ledger | None = None) -> None:
        """Topology, ports, certificates and secrets: all that nodes need which somebody else starts."""
        if not self.home.topology.exists():
            save(load(topology, ledger), self.home.topology)
            self._say(f"made   {self.home.root}")
        if ledger not in (None, self.topology.ledger):
            raise UsageError(
                f"{self.home.root} is a system on {self.topology.ledger} and stays one: "
                "choose another EMR_HOME, or remove everything with emr reset"
            )
        Ports.plan(self.home.ports, self.topology, free=free_ports)
        make_material(self.home, self.topology)
        make_secrets(self.home, self.topology)

    async def up(self) -> None:
        """Starts what is not running yet, in order, and returns once everything is ready. `prepare` comes before."""
        await self._prepare_stores()
        everything = self.processes
        self.supervisor.start([process.program for process in everything])
        async with Readiness(self.home, self.ports) as readiness:
            base = [process for process in everything if process.stage is not Stage.SERVICES]
            await self._launch(readiness, base)
            await self.found()
            await self._launch(readiness, [process for process in everything if process.stage is Stage.SERVICES])

    async def network_up(self) -> None:
        """Starts the ledger network alone: peers and orderers, CAs, the chaincode."""
        everything = self.processes
        self.supervisor.start([process.program for process in everything])
        async with Readiness(self.home, self.ports) as readiness:
            await self._launch(readiness, [process for process in everything if process.stage is Stage.NETWORK])
        await self.found_network()

    async def _launch(self, readiness: Readiness, members: Sequence[Process]) -> None:
        running = {one.name for one in self.supervisor.processes() if one.is_running}
        self.supervisor.launch([process.name for process in members if process.name not in running])
        await readiness.wait(members, self._say)

    async def _prepare_stores(self) -> None:
        postgres, kafka = Postgres(self.home, self.ports), Kafka(self.home, self.ports)
        made = await asyncio.gather(asyncio.to_thread(postgres.prepare), asyncio.to_thread(kafka.prepare))
        for name, is_new in zip(("Postgres data folder", "Kafka storage"), made, strict=True):
            if is_new:
                self._say(f"made   {name}")

    async def found(self) -> None:
        """What services need and only running processes can give: databases, topics, identities, hospitals' entries."""
        await asyncio.gather(
            Postgres(self.home, self.ports).make_databases(self.topology),
            Kafka(self.home, self.ports).make_topics(self._topics()),
            self.found_network(),
        )
        from emr_deploy.administrators import enter_administrators

        for organization in await enter_administrators(self.home, self.topology, self.ports):
            self._say(f"made   the administrator's place in the wallet of {organization}")

    def _topics(self) -> list[NewTopic]:
        return [topic for one in self.topology.organizations for topic in topics(one.name)]

    async def found_network(self) -> None:
        """Channel and contract, hospitals' identities, their entries on the ledger; whoever started the nodes."""
        await self.network.found()
        for organization in self.topology.organizations:
            if await Enrolment(self.home, organization, self.ports).enrol_missing():
                self._say(f"made   identities of {organization.msp_id}: registrar, admin, service")
        staying = self._without_who_leaves()
        await settle(self.home, staying, self.ports)
        for msp_id in await register_organizations(self.home, staying, self.ports):
            self._say(f"made   the entry of {msp_id} on the ledger, with its sealing key")

    def deliver(self) -> None:
        """Brings processes in containers what they may read; others read EMR_HOME itself."""
        if self.ports.is_elsewhere:
            Delivery(self.home, self.topology, self.ports).deliver()

    def supervise(self) -> None:
        """Makes processes known to the supervisor that the system has gained, and ends those it has lost."""
        self.supervisor.start([process.program for process in self.processes])

    async def open_hospital(self, organization: Organization) -> None:
        """Databases, topics and services of a hospital that has joined; what is there stays."""
        await asyncio.gather(
            Postgres(self.home, self.ports).make_databases(self.topology),
            Kafka(self.home, self.ports).make_topics(topics(organization.name)),
        )
        from emr_deploy.administrators import enter_administrators

        await enter_administrators(self.home, self.topology, self.ports)
        self.supervise()
        members = [one for one in self.processes if one.organization == organization.name]
        async with Readiness(self.home, self.ports) as readiness:
            await self._launch(readiness, members)

    def runs_stores(self) -> bool:
        """Whether more than the network runs: databases and topics."""
        running = {one.name for one in self.supervisor.processes() if one.is_running}
        return {"postgres", "kafka"} <= running

    async def start_peers(self, organization: Organization) -> None:
        """Starts a hospital's peers again, and returns once every gateway gets their endorsement."""
        self.network.start(organization)
        peers = [one for one in self.processes if (one.service, one.organization) == ("peer", organization.name)]
        async with Readiness(self.home, self.ports) as readiness:
            await readiness.wait(peers, self._say)
        await settle(self.home, self.topology, self.ports)

    def _without_who_leaves(self) -> Topology:
        change = underway(self.home)
        if change is None or change.kind != "remove-org" or change.organization not in self.topology.organizations:
            return self.topology
        return self.topology.without_organization(change.organization.name)

    def down(self) -> bool:
        """Stops everything, services before what they stand on; what it holds stays. False when nothing ran."""
        if self.supervisor.is_running():
            running = {one.name for one in self.supervisor.processes() if not one.is_ended}
            for stage in reversed(Stage):
                names = [one.name for one in self.processes if one.stage is stage and one.name in running]
                self.supervisor.stop(names)
        return self.supervisor.shut_down()

    def network_down(self) -> None:
        self.supervisor.stop([process.name for process in self.processes if process.stage is Stage.NETWORK])

    def reset(self) -> None:
        """Stops everything and removes what it held: certificates, keys, records. There is no way back."""
        self.down()
        if not self.home.root.exists():
            return
        strangers = {path.name for path in self.home.root.iterdir()} - {DEMO}
        if strangers and not self.home.topology.exists():
            raise UsageError(f"{self.home.root} was not made by emr up, so it is left alone")
        shutil.rmtree(self.home.root)

    async def scale(self, service: str, organization: str, count: int) -> None:
        """Runs `count` instances of a service of a hospital. Raises UsageError."""
        if service not in SCALABLE:
            raise UsageError(f"{service} runs once a hospital; these can be scaled: {', '.join(SCALABLE)}")
        if not 1 <= count <= MOST_INSTANCES:
            raise UsageError(f"1 to {MOST_INSTANCES} instances")
        name = self.topology.organization(organization).name
        instances = {**self._instances, f"{service}-{name}": count}
        self._instances_file.write_text(json.dumps(instances), encoding="utf-8")
        self.supervisor.start([process.program for process in self.processes])
        members = [one for one in self.processes if (one.service, one.organization) == (service, name)]
        async with Readiness(self.home, self.ports) as readiness:
            await self._launch(readiness, members)

    @property
    def _instances_file(self) -> Path:
        return self.home.root / "instances.json"

    @property
    def _instances(self) -> dict[str, int]:
        if not self._instances_file.exists():
            return {}
        kept: dict[str, int] = json.loads(self._instances_file.read_text(encoding="utf-8"))
        return kept
