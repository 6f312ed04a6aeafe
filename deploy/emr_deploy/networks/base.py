"""What a system asks of its ledger network, whichever it is, and what all networks have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from emr_network.devnet import ca_processes, is_packaged
from emr_network.home import Home
from emr_network.packages import chaincode_package
from emr_network.ports import Ports
from emr_network.topology import Chaincode, Organization, Topology
from hlf.admin.packaging import ChaincodePackage

from emr_deploy.process import Process, Stage
from emr_deploy.supervisor import Program


@dataclass(frozen=True)
class PeerStatus:
    """`height` is its number of blocks, None while it is stopped."""

    organization: str
    msp_id: str
    name: str
    running: bool
    height: int | None
    endpoint: str


@dataclass(frozen=True)
class NetworkStatus:
    """`calls`: how often each call of a gateway was made, where the network counts them."""

    peers: tuple[PeerStatus, ...]
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return max((peer.height or 0 for peer in self.peers), default=0)

    def of(self, msp_id: str) -> list[PeerStatus]:
        return [peer for peer in self.peers if peer.msp_id == msp_id]


class LedgerNetwork(Protocol):
    """The network of one EMR_HOME. `prepare` comes before any process runs, `found` once those of `processes` do."""

    def make(self) -> None:
        """Writes what nodes need that somebody else starts. Repeatable."""

    def prepare(self) -> None:
        """Writes what `processes` are told. Repeatable. Raises ProgramsMissing."""

    def processes(self) -> Iterator[Process]: ...

    async def found(self) -> None:
        """Makes the channel and deploys the contract, where the network's processes do not do so by themselves.

        Repeatable: what was done before is left alone. Raises HlfError."""

    async def status(self) -> NetworkStatus:
        """A network that does not run has no peers running."""

    async def open_peers(self, organization: Organization) -> None:
        """Makes room for the peers of a hospital that joins the running network, where that takes more than their
        processes. Repeatable. Raises ControlFailed."""

    def close_peers(self, organization: Organization) -> None:
        """The opposite, for a hospital that has left."""

    def stop(self, organization: Organization) -> None:
        """Stops one hospital's peers. Raises ControlFailed or SupervisorFailed."""

    def start(self, organization: Organization) -> None:
        """Starts them again."""


@dataclass(frozen=True)
class Site:
    """Which system it is."""

    home: Home
    topology: Topology
    ports: Ports


def chaincode_process(site: Site, organization: Organization, chaincode: Chaincode) -> Process:
    """The contract as a service for one hospital's peers."""
    name = chaincode.port_of(organization.name)
    environment = {
        "CHAINCODE_SERVER_ADDRESS": f"{site.ports.listen_host(name)}:{site.ports[name]}",
        "CHAINCODE_ID": chaincode_id(site, organization, chaincode),
        "CORE_PEER_LOCALMSPID": organization.msp_id,
    }
    program = Program(name, [sys.executable, "-m", "emr_chaincode"], environment)
    return Process(program, Stage.NETWORK, site.ports[name], "chaincode", organization.name)


def chaincode_id(site: Site, organization: Organization, chaincode: Chaincode) -> str:
    """By which the process tells the peer what it runs."""
    topology = site.topology.with_chaincode(**chaincode.model_dump(by_alias=True))
    if not is_packaged(topology, organization):
        return f"{chaincode.name}_{chaincode.version}"
    return package_of(site, organization, chaincode).package_id


def package_of(site: Site, organization: Organization, chaincode: Chaincode) -> ChaincodePackage:
    address = site.ports.address(chaincode.port_of(organization.name))
    return chaincode_package(site.home, organization, chaincode, address)


def development_cas(site: Site) -> Iterator[Process]:
    """The development CA: one process for all hospitals of the beginning, one for each that has joined."""
    for file, organizations in ca_processes(site.home, site.topology).items():
        program = Program(file.stem, [sys.executable, "-m", "hlf_devnet.ca", str(file)])
        yield Process(program, Stage.NETWORK, site.ports[f"ca-{organizations[0].name}"], "ca")
