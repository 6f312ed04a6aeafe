"""A system as those see it who administer it from here: whose keys are in its EMR_HOME."""

from __future__ import annotations

from collections.abc import Sequence

from emr_network.administration.consortium import Administrator, Consortium, Say
from emr_network.administration.contract import Contract
from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.material import orderer_organization
from emr_network.organizations import endpoints
from emr_network.ports import Ports, orderer_ports
from emr_network.topology import Organization, Topology
from hlf.gateway import Endpoint
from hlf.identity import SigningIdentity


def consortium(home: Home, topology: Topology, ports: Ports, say: Say = lambda _: None) -> Consortium:
    """Every hospital's administrator who is enrolled here."""
    folder = orderer_organization(home, topology)
    certificate = folder.tls_ca_certificate.read_bytes()
    return Consortium(
        topology.channel,
        {one.msp_id: administrator(home, one, ports) for one in enrolled(home, topology.organizations, ports)},
        tuple(Endpoint(ports.address(name), certificate) for name in orderer_ports(topology)),
        SigningIdentity.from_msp_dir(folder.user("Admin"), topology.orderer.msp_id),
        say,
    )


def contract(home: Home, topology: Topology, ports: Ports, say: Say = lambda _: None) -> Contract:
    return Contract(consortium(home, topology, ports, say), topology.chaincode.name)


def administrator(home: Home, organization: Organization, ports: Ports) -> Administrator:
    folder = Enrolment(home, organization, ports).admin_folder
    identity = SigningIdentity.from_msp_dir(folder, organization.msp_id)
    return Administrator(identity, tuple(endpoints(home, organization, ports)))


def enrolled(home: Home, organizations: Sequence[Organization], ports: Ports) -> list[Organization]:
    return [
        one for one in organizations if (Enrolment(home, one, ports).admin_folder / "signcerts" / "cert.pem").exists()
    ]
