"""A topology as official nodes: where each keeps its certificates and data, where it listens, who administers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from hlf.admin.channel import BatchSettings
from hlf.admin.lifecycle import ChaincodeDefinition
from hlf.identity import SigningIdentity

from emr_network.enrolment import Enrolment
from emr_network.fabric.channel import FabricChannel, Member, OrderingService, Say
from emr_network.fabric.nodes import OrdererNode, PeerNode, Tls
from emr_network.home import Home
from emr_network.material import orderer_organization, peer_organization
from emr_network.ports import Ports, orderer_ports, peer_ports
from emr_network.topology import Organization, Topology


@dataclass(frozen=True)
class FabricLayout:
    """Nodes are named after their ports: `peer-a`, `orderer-1`."""

    home: Home
    topology: Topology
    ports: Ports
    say: Say = field(default=lambda _: None)

    def peers(self, organization: Organization) -> dict[str, PeerNode]:
        names = peer_ports(organization)
        folder = peer_organization(self.home, organization)
        nodes = {}
        for number, name in enumerate(names, start=1):
            host = organization.peer_host(number)
            nodes[name] = PeerNode(
                name=host,
                msp_id=organization.msp_id,
                msp=folder.node(host) / "msp",
                tls=Tls.in_folder(folder.node(host) / "tls"),
                address=self.ports.address(name),
                chaincode_address=self.ports.address(f"{name}-internal"),
                operations_address=self.ports.address(f"{name}-operations"),
                data=self.home.fabric / name,
                gossip_bootstrap=self.ports.address(names[number % len(names)]),
            )
        return nodes

    def orderers(self) -> dict[str, OrdererNode]:
        folder = orderer_organization(self.home, self.topology)
        nodes = {}
        for number, name in enumerate(orderer_ports(self.topology), start=1):
            host = self.topology.orderer.node_name(number)
            tls = Tls.in_folder(folder.node(host) / "tls")
            nodes[name] = OrdererNode(
                name=host,
                msp_id=self.topology.orderer.msp_id,
                msp=folder.node(host) / "msp",
                tls=tls,
                address=self.ports.address(name),
                admin_address=self.ports.address(f"{name}-admin"),
                admin_tls=tls,
                admin_client_ca=folder.administration / "ca.crt",
                operations_address=self.ports.address(f"{name}-operations"),
                data=self.home.fabric / name,
            )
        return nodes

    def member(self, organization: Organization) -> Member:
        """FileNotFoundError before its administrator is enrolled."""
        enrolment = Enrolment(self.home, organization, self.ports)
        admin = SigningIdentity.from_msp_dir(enrolment.admin_folder, organization.msp_id)
        msp = peer_organization(self.home, organization).msp
        return Member(organization.msp_id, msp, tuple(self.peers(organization).values()), admin)

    def ordering(self) -> OrderingService:
        folder = orderer_organization(self.home, self.topology)
        certificate = folder.administration / "client.crt", folder.administration / "client.key"
        return OrderingService(self.topology.orderer.msp_id, folder.msp, tuple(self.orderers().values()), certificate)

    def channel(self) -> FabricChannel:
        batch = self.topology.batch
        settings = BatchSettings(
            timedelta(milliseconds=batch.timeout_ms), batch.max_messages, preferred_max_bytes=batch.max_bytes
        )
        members = tuple(self.member(one) for one in self.topology.organizations)
        return FabricChannel(self.topology.channel, members, self.ordering(), settings, self.say)

    def definition(self) -> ChaincodeDefinition:
        chaincode = self.topology.chaincode
        return ChaincodeDefinition(
            chaincode.name, chaincode.version, chaincode.sequence, self.topology.endorsement_policy
        )
