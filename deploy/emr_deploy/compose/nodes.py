"""Official peers, orderers and CAs as their containers see them: paths beneath `/run/careledger`, data in a volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from emr_network.fabric.ca import CONFIGURATION, ca_folder
from emr_network.fabric.nodes import OrdererNode, PeerNode, Tls
from emr_network.home import Home
from emr_network.topology import Organization, Topology

from emr_deploy.compose.places import (
    CA_PORT,
    OPERATIONS_PORT,
    ORDERER_ADMIN_PORT,
    ORDERER_PORT,
    PEER_INTERNAL_PORT,
    PEER_PORT,
    RUN,
)

EVERYWHERE = "0.0.0.0"  # noqa: S104 - of a container, whose networks compose makes
LEDGER = Path("/var/hyperledger")
CA_HOME = Path("/var/lib/fabric-ca")
OPERATIONS = f"127.0.0.1:{OPERATIONS_PORT}"


def peer_node(organization: Organization) -> PeerNode:
    internal = f"127.0.0.1:{PEER_INTERNAL_PORT}"
    return PeerNode(
        name=organization.peer_name,
        msp_id=organization.msp_id,
        msp=RUN / "peer" / "msp",
        tls=Tls.in_folder(RUN / "peer" / "tls"),
        address=f"{organization.peer_name}:{PEER_PORT}",
        chaincode_address=internal,
        operations_address=OPERATIONS,
        data=LEDGER,
        listen_host=EVERYWHERE,
    )


def peer_environment(organization: Organization) -> Mapping[str, str]:
    """The configuration file is the operator's, not among what the peer itself may write."""
    return {**peer_node(organization).environment(), "FABRIC_CFG_PATH": str(RUN / "peer" / "config")}


def orderer_node(topology: Topology, number: int, name: str) -> OrdererNode:
    """Node `number`, which counts from 1; `name` is its folder."""
    folder, host = RUN / name, topology.orderer.node_name(number)
    tls = Tls.in_folder(folder / "tls")
    return OrdererNode(
        name=host,
        msp_id=topology.orderer.msp_id,
        msp=folder / "msp",
        tls=tls,
        address=f"{host}:{ORDERER_PORT}",
        admin_address=f"{host}:{ORDERER_ADMIN_PORT}",
        admin_tls=tls,
        admin_client_ca=folder / "administration-ca.crt",
        operations_address=OPERATIONS,
        data=LEDGER,
        listen_host=EVERYWHERE,
    )


def ca_configuration(home: Home, organization: Organization) -> str:
    """What the network's maker wrote for this CA, with the container's addresses and paths."""
    settings: dict[str, Any] = yaml.safe_load((ca_folder(home, organization) / CONFIGURATION).read_text("utf-8"))
    folder = RUN / "ca"
    settings |= {"address": EVERYWHERE, "port": CA_PORT}
    settings["tls"] |= {"certfile": str(folder / "tls" / "server.crt"), "keyfile": str(folder / "tls" / "server.key")}
    settings["ca"] |= {"certfile": str(folder / "ca-cert.pem"), "keyfile": str(folder / "ca-key.pem")}
    settings["db"] |= {"datasource": str(CA_HOME / "fabric-ca-server.db")}
    settings["operations"] |= {"listenAddress": OPERATIONS}
    return yaml.safe_dump(settings, sort_keys=False)
