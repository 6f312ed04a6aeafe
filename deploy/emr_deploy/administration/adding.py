"""A hospital comes to a running network, without an outage.

The order matters. From the block that adds an organization, a policy of *all* organizations could be met by no
transaction until the newcomer endorses. So the explicit policy of N hospitals stays while the newcomer joins, catches
up, approves the contract in force and runs it; only then does the policy of N+1 come into force.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from emr_network.administration.consortium import Administrator, Say
from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.material import make_material, peer_organization
from emr_network.organizations import register_organization
from emr_network.ports import Ports
from emr_network.topology import Organization, Topology, save
from emr_network.waiting import eventually
from hlf.admin import edits
from hlf.admin.channel import PeerOrganization
from hlf.admin.errors import PeerRefused
from hlf.admin.msp import MspDefinition
from hlf.admin.peer import PeerAdmin

from emr_deploy.administration.site import administrator, contract
from emr_deploy.administration.underway import finish
from emr_deploy.networks.base import LedgerNetwork, Site, package_of
from emr_deploy.process import Process
from emr_deploy.programs import network_of
from emr_deploy.readiness import Readiness
from emr_deploy.secrets import make_secrets
from emr_deploy.supervisor import Supervisor

CATCH_UP_SECONDS = 120.0
_UNKNOWN = "creator org unknown"


@dataclass(frozen=True)
class Adding:
    """`topology` is the network without the newcomer. Every step may be repeated."""

    home: Home
    topology: Topology
    newcomer: Organization
    ports: Ports
    supervise: Callable[[], None]
    """Makes the newcomer's processes known to the supervisor."""
    say: Say

    @cached_property
    def extended(self) -> Topology:
        """Raises TopologyError for a newcomer who shares a name, an MSP id or a domain with a member."""
        return self.topology.with_organization(self.newcomer)

    @cached_property
    def network(self) -> LedgerNetwork:
        return network_of(self.home, self.extended, self.ports, self.say)

    async def run(self) -> Topology:
        """The ledger's part; the network with the newcomer. Raises HlfError, PortTaken, NotReady."""
        self._make()
        await self._start("ca")
        if await Enrolment(self.home, self.newcomer, self.ports).enrol_missing():
            self.say(f"made   identities of {self.newcomer.msp_id}: registrar, admin, service")
        await self.network.open_peers(self.newcomer)
        await self._start("peer")
        await self._join()
        await self._run_contract()
        await self._count_it()
        return self._keep()

    def _make(self) -> None:
        for name in self.ports.extend(self.extended):
            if not name.endswith("-operations"):
                self.say(f"made   port {self.ports[name]} for {name}")
        make_material(self.home, self.extended)
        make_secrets(self.home, self.extended)
        self.network.prepare()

    async def _start(self, service: str) -> None:
        """Of the newcomer's processes in the network those of one kind."""
        members = [one for one in self.network.processes() if self._is_newcomers(one) and one.service == service]
        self.supervise()
        Supervisor(self.home).launch([one.name for one in members])
        async with Readiness(self.home, self.ports) as readiness:
            await readiness.wait(members, self.say)

    def _is_newcomers(self, process: Process) -> bool:
        return process.organization == self.newcomer.name or process.name == f"ca-{self.newcomer.name}"

    async def _join(self) -> None:
        members = contract(self.home, self.topology, self.ports, self.say).consortium
        msp = MspDefinition.from_dir(peer_organization(self.home, self.newcomer).msp, self.newcomer.msp_id)
        own = administrator(self.home, self.newcomer, self.ports)
        organization = PeerOrganization(msp, tuple(endpoint.address for endpoint in own.peers))
        await members.change(
            f"{self.newcomer.msp_id} a member of {self.topology.channel}",
            lambda config: edits.with_organization(config, organization),
        )
        anybody = next(iter(members.administrators.values()))
        async with PeerAdmin(anybody.peers[0], anybody.identity) as peer:
            genesis = await peer.block(self.topology.channel, 0)
            height = await peer.height(self.topology.channel)
        for endpoint in own.peers:
            async with PeerAdmin(endpoint, own.identity) as peer:
                if await eventually(lambda peer=peer: peer.join(genesis)):  # type: ignore[misc]
                    self.say(f"joined {endpoint.address} {self.topology.channel}")
        await self._catch_up(own, height)

    async def _catch_up(self, own: Administrator, height: int) -> None:
        started = time.monotonic()
        for endpoint in own.peers:
            async with PeerAdmin(endpoint, own.identity) as peer:
                while (reached := await self._height(peer)) < height:
                    if time.monotonic() > started + CATCH_UP_SECONDS:
                        raise PeerRefused(f"{endpoint.address} has only {reached} of {height} blocks")
                    await asyncio.sleep(0.1)
        self.say(f"ready  {self.newcomer.msp_id} has {height} blocks")

    async def _height(self, peer: PeerAdmin) -> int:
        """0 until the peer has the block that makes its own organization a member: before, it knows nobody of it."""
        try:
            return await peer.height(self.topology.channel)
        except PeerRefused as refused:
            if _UNKNOWN not in refused.message:
                raise
            return 0

    async def _run_contract(self) -> None:
        everybody = contract(self.home, self.extended, self.ports, self.say)
        chaincode = self.topology.chaincode
        package = package_of(Site(self.home, self.extended, self.ports), self.newcomer, chaincode)
        await everybody.install(self.newcomer.msp_id, package)
        definition = (await everybody.in_force()).definition
        await everybody.approve(self.newcomer.msp_id, definition, package.package_id)
        await self._start("chaincode")
        if await register_organization(self.home, self.extended, self.ports, self.newcomer):
            self.say(f"made   the entry of {self.newcomer.msp_id} on the ledger, with its sealing key")

    async def _count_it(self) -> None:
        """From here on nothing is written without the newcomer, where all endorse."""
        everybody = contract(self.home, self.extended, self.ports, self.say)
        members = [one.msp_id for one in self.extended.organizations]
        await everybody.redefine(self.topology.chaincode.version, self.extended.endorsement_policy, members)

    def _keep(self) -> Topology:
        topology = self.extended
        save(topology, self.home.topology)
        finish(self.home)
        return topology
