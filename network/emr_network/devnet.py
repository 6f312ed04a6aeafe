"""What devnet and its CA are told: their two configuration files, and the calls of devnet's control port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from emr_network.home import Home
from emr_network.material import orderer_name, orderer_organization, peer_organization
from emr_network.ports import Ports
from emr_network.topology import ENDORSEMENT_SECONDS, Organization, Topology

REGISTRAR = "registrar"
CONTROL_TIMEOUT_SECONDS = 20.0


class ControlFailed(Exception):
    """Devnet's control port does not answer, or refuses."""


def write_devnet_config(home: Home, topology: Topology, ports: Ports) -> Path:
    orderer = orderer_organization(home, topology)
    node = orderer.node(orderer_name(topology)) / "msp"
    return _write(
        home.network / "devnet.yaml",
        {
            "channel": topology.channel,
            "data_dir": str(home.network / "devnet"),
            "batch": topology.batch.model_dump(),
            "orderer": {
                "msp_id": topology.orderer.msp_id,
                "msp_dir": str(orderer.msp),
                "listen": ports.address("orderer-1"),
                "tls_cert": str(node.parent / "tls" / "server.crt"),
                "tls_key": str(node.parent / "tls" / "server.key"),
                "signing": {
                    "cert": str(node / "signcerts" / "cert.pem"),
                    "key": str(node / "keystore" / "priv_sk"),
                },
            },
            "organizations": [devnet_member(home, topology, ports, one) for one in topology.organizations],
            "chaincodes": [
                {
                    "name": topology.chaincode.name,
                    "version": topology.chaincode.version,
                    "sequence": topology.chaincode.sequence,
                    "endorsement": topology.endorsement,
                }
            ],
            "limits": {"endorsement_timeout_seconds": ENDORSEMENT_SECONDS},
            "control": {"listen": ports.address("devnet-control")},
        },
    )


def devnet_member(home: Home, topology: Topology, ports: Ports, organization: Organization) -> dict[str, Any]:
    """A hospital's section. A contract that came by a package of the lifecycle is where that package says."""
    folder = peer_organization(home, organization)
    peer = folder.node(organization.peer_name)
    section: dict[str, Any] = {
        "msp_id": organization.msp_id,
        "msp_dir": str(folder.msp),
        "peer": {
            "name": organization.peer_name,
            "listen": ports.address(f"peer-{organization.name}"),
            "identity_dir": str(peer / "msp"),
            "tls_cert": str(peer / "tls" / "server.crt"),
            "tls_key": str(peer / "tls" / "server.key"),
        },
    }
    if not is_packaged(topology, organization):
        address = ports.address(topology.chaincode.port_of(organization.name))
        section["chaincodes"] = {topology.chaincode.name: {"address": address}}
    return section


def is_packaged(topology: Topology, organization: Organization) -> bool:
    """Whether the hospital's contract was deployed by a package; devnet's own configuration deploys the first ones."""
    return topology.ledger == "fabric" or topology.chaincode.packaged or organization.joined


def write_ca_config(home: Home, topology: Topology, ports: Ports) -> None:
    """What the development CA is told: one process for the hospitals of the beginning, one for each that has joined."""
    for file, organizations in ca_processes(home, topology).items():
        authorities = [_authority(home, ports, one) for one in organizations]
        _write(file, {"data_dir": str(home.network / "ca"), "authorities": authorities})


def ca_processes(home: Home, topology: Topology) -> dict[Path, list[Organization]]:
    """The configuration file of each process of the development CA, and the hospitals that it serves."""
    first = [one for one in topology.organizations if not one.joined]
    joined = {home.network / f"ca-{one.name}.yaml": [one] for one in topology.organizations if one.joined}
    return {home.network / "ca.yaml": first} | joined if first else joined


def registrar_secret(home: Home, organization: Organization) -> Path:
    return home.secret(organization.name, "registrar-secret")


def _authority(home: Home, ports: Ports, organization: Organization) -> dict[str, Any]:
    folder = peer_organization(home, organization)
    return {
        "name": organization.ca_name,
        "msp_id": organization.msp_id,
        "listen": ports.address(f"ca-{organization.name}"),
        "ca_cert": str(folder.ca_certificate),
        "ca_key": str(folder.ca_key),
        "tls_cert": str(folder.ca_tls / "server.crt"),
        "tls_key": str(folder.ca_tls / "server.key"),
        "registrar": {"id": REGISTRAR, "secret_file": str(registrar_secret(home, organization))},
        "crl_file": str(folder.crl),
    }


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class DevnetControl:
    """Devnet's control port: its state; one hospital's peer stopped and started alone. All raise ControlFailed."""

    url: str

    @classmethod
    def at(cls, ports: Ports) -> DevnetControl:
        return cls(f"http://{ports.address('devnet-control')}")

    def status(self) -> dict[str, Any]:
        """`{height, organizations: [{msp_id, running, height, endpoint}], calls: {name: number of calls}}`."""
        return self._call("GET", "/status")

    def stop(self, msp_id: str) -> None:
        self._call("POST", f"/organizations/{msp_id}/stop")

    def start(self, msp_id: str) -> None:
        self._call("POST", f"/organizations/{msp_id}/start")

    def open(self, section: dict[str, Any]) -> None:
        """Opens the peer of a further hospital; returns once it answers. Repeatable."""
        self._call("POST", "/organizations", section)

    def close(self, msp_id: str) -> None:
        """Closes a hospital's peer for good; its ledger's files stay."""
        self._call("DELETE", f"/organizations/{msp_id}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = httpx.request(method, self.url + path, json=body, timeout=CONTROL_TIMEOUT_SECONDS, trust_env=False)
            answer.raise_for_status()
            content: dict[str, Any] = answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise ControlFailed(f"devnet's control port: {error}") from error
        return content
