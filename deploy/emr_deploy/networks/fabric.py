"""Official peers and orderers as native processes, and official CAs where `fabric-ca-server` is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from emr_network.devnet import write_ca_config
from emr_network.enrolment import Enrolment
from emr_network.fabric.ca import ca_folder, write_fabric_ca_config
from emr_network.fabric.channel import FabricChannel, endpoint_of
from emr_network.fabric.layout import FabricLayout
from emr_network.fabric.nodes import PeerNode
from emr_network.fabric.programs import Programs, ProgramsMissing
from emr_network.home import Home
from emr_network.ports import peer_ports
from emr_network.topology import Organization
from hlf.admin.packaging import ChaincodePackage
from hlf.admin.peer import PeerAdmin
from hlf.errors import HlfError
from hlf.identity import SigningIdentity

from emr_deploy.networks.base import NetworkStatus, PeerStatus, Site, chaincode_process, development_cas, package_of
from emr_deploy.process import Process, Stage
from emr_deploy.supervisor import Program, Supervisor

STATUS_SECONDS = 3.0


@dataclass(frozen=True)
class FabricNetwork:
    site: Site
    say: Callable[[str], None] = field(default=lambda _: None)

    @cached_property
    def layout(self) -> FabricLayout:
        return FabricLayout(self.site.home, self.site.topology, self.site.ports, self.say)

    def make(self) -> None:
        write_ca_config(self.site.home, self.site.topology, self.site.ports)
        for organization in self.site.topology.organizations:
            write_fabric_ca_config(self.site.home, organization, self.site.ports)
            package_id = self._package(organization).package_id
            (self.site.home.packages / f"{organization.name}.id").write_text(package_id, encoding="utf-8")

    def prepare(self) -> None:
        keep_programs(self.site.home)
        self.make()
        for orderer in self.layout.orderers().values():
            orderer.prepare()
        for organization in self.site.topology.organizations:
            for peer in self.layout.peers(organization).values():
                peer.prepare()

    def processes(self) -> Iterator[Process]:
        programs = kept_programs(self.site.home)
        ports = self.site.ports
        for name, orderer in self.layout.orderers().items():
            program = Program(name, [str(programs.orderer)], orderer.environment())
            yield Process(program, Stage.NETWORK, ports[name], "orderer", probe=ports[f"{name}-operations"])
        if programs.ca_server is None:
            yield from development_cas(self.site)
        for organization in self.site.topology.organizations:
            if programs.ca_server is not None:
                yield self._official_ca(programs.ca_server, organization)
            for name, peer in self.layout.peers(organization).items():
                program = Program(name, [str(programs.peer), "node", "start"], peer.environment())
                probe = ports[f"{name}-operations"]
                yield Process(program, Stage.NETWORK, ports[name], "peer", organization.name, probe)
            yield chaincode_process(self.site, organization, self.site.topology.chaincode)

    def _official_ca(self, program: Path, organization: Organization) -> Process:
        name = f"ca-{organization.name}"
        command = [str(program), "start", "-H", str(ca_folder(self.site.home, organization))]
        return Process(Program(name, command), Stage.NETWORK, self.site.ports[name], "ca", organization.name)

    def _package(self, organization: Organization) -> ChaincodePackage:
        return package_of(self.site, organization, self.site.topology.chaincode)

    async def found(self) -> None:
        for organization in self.site.topology.organizations:
            if await Enrolment(self.site.home, organization, self.site.ports).enrol_missing():
                self.say(f"made   identities of {organization.msp_id}: registrar, admin, service")
        channel = self.layout.channel()
        await channel.create(channel.genesis(self.site.home.network / "genesis.block"))
        if not await self._is_deployed(channel):
            packages = {one.msp_id: self._package(one) for one in self.site.topology.organizations}
            await channel.deploy(self.layout.definition(), packages)

    async def _is_deployed(self, channel: FabricChannel) -> bool:
        """Whether this sequence or, while a change is under way, a later one is in force."""
        chaincode = self.site.topology.chaincode
        committed = await channel.with_lifecycle(channel.members[0], lambda one: one.committed(chaincode.name))
        return committed is not None and committed.definition.sequence >= chaincode.sequence

    async def status(self) -> NetworkStatus:
        waits = [
            self._peer(organization, name, peer)
            for organization in self.site.topology.organizations
            for name, peer in self.layout.peers(organization).items()
        ]
        return NetworkStatus(tuple(await asyncio.gather(*waits)))

    async def _peer(self, organization: Organization, name: str, peer: PeerNode) -> PeerStatus:
        height = await self._height(organization, peer)
        return PeerStatus(organization.name, organization.msp_id, peer.name, height is not None, height, peer.address)

    async def _height(self, organization: Organization, peer: PeerNode) -> int | None:
        folder = Enrolment(self.site.home, organization, self.site.ports).admin_folder
        try:
            admin = SigningIdentity.from_msp_dir(folder, organization.msp_id)
            async with PeerAdmin(endpoint_of(peer), admin, timeout_seconds=STATUS_SECONDS) as asked:
                return await asked.height(self.site.topology.channel)
        except (HlfError, OSError):
            return None

    async def open_peers(self, organization: Organization) -> None:
        """Nothing: they are processes of their own."""

    def close_peers(self, organization: Organization) -> None:
        """Nothing: they end with their processes."""

    def stop(self, organization: Organization) -> None:
        Supervisor(self.site.home).stop(peer_ports(organization))

    def start(self, organization: Organization) -> None:
        Supervisor(self.site.home).launch(peer_ports(organization))


def keep_programs(home: Home) -> None:
    """Remembers where the official programs are, for commands that run without FABRIC_BIN.

    Which CA serves is settled the first time: identities stay where they were registered. Raises ProgramsMissing.
    """
    kept = _kept(home)
    try:
        programs = Programs.find()
    except ProgramsMissing:
        if kept is None:
            raise
        return
    if kept is not None and (programs.ca_server is None) != (kept.ca_server is None):
        programs = replace(programs, ca_server=kept.ca_server)
    found = {name: str(path) for name, path in asdict(programs).items() if path is not None}
    _programs_file(home).parent.mkdir(parents=True, exist_ok=True)
    _programs_file(home).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def kept_programs(home: Home) -> Programs:
    """Raises ProgramsMissing."""
    kept = _kept(home)
    if kept is None:
        raise ProgramsMissing("this EMR_HOME knows no Fabric programs: emr network up finds them")
    return kept


def _kept(home: Home) -> Programs | None:
    if not _programs_file(home).exists():
        return None
    found = json.loads(_programs_file(home).read_text(encoding="utf-8"))
    return Programs(**{name: Path(path) for name, path in found.items()})


def _programs_file(home: Home) -> Path:
    return home.network / "programs.json"
