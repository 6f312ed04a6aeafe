"""Who runs as which user in docker-compose.yaml, where volumes are mounted, and by which names processes are reached.

Each hospital has a volume with a folder a process. The folder is the operator's, who alone writes, and of the group of
the process, which alone reads: a service cannot open what belongs to another one. Where a process runs, its own
hospital's volume is `/run/careledger`; where the operator works, every volume is mounted, beneath it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emr_network.ports import SERVICES, orderer_ports
from emr_network.topology import Organization, Topology

OPERATOR = 10000
USERS: Mapping[str, int] = {
    "operator": OPERATOR,
    "issuer": OPERATOR,
    "peer": 10001,
    "orderer": 10002,
    "ca": 10003,
    "chaincode": 10004,
    **{service: number for number, service in enumerate(SERVICES, start=10011)},
    "balancer": 10020,
    "postgres": 999,
    "kafka": 1000,
}
"""User and group of each kind of process; of the last two the official images have made them."""

HOME = Path("/var/lib/careledger")
"""The operator's EMR_HOME: every key there is. Only one-shot containers mount it."""
RUN = Path("/run/careledger")
DATA = Path("/data")
"""Beneath it the first one-shot container sees what processes keep, to give it to them."""

ORDERING, STORES, ISSUER = "ordering", "stores", "issuer"
API_PORT = 8080
"""Of every service, in its container."""
ORDERER_NODES = 3
PEER_PORT, PEER_INTERNAL_PORT, OPERATIONS_PORT = 7051, 7055, 9443
ORDERER_PORT, ORDERER_ADMIN_PORT = 7050, 7053
CA_PORT, CHAINCODE_PORT = 7054, 9999
KAFKA_PORT, POSTGRES_PORT, ISSUER_PORT = 9092, 5432, 7080
CONTRACT_SLOTS = ("chaincode", "chaincode-2")
"""A hospital's two places for the contract: the version in force runs in one, the next one in the other."""
BALANCED = {"registration": 8101, "records": 8102, "consent": 8103, "indexer": 8107}
"""At which port a hospital's load balancer answers for a service."""


@dataclass(frozen=True)
class Folder:
    """A process's folder in a volume of `RUN`, and the kind of process that reads it."""

    volume: str
    process: str
    kind: str

    @property
    def path(self) -> Path:
        return RUN / self.volume / self.process


def hospital_volume(organization: Organization) -> str:
    return f"hospital-{organization.name}"


def folders(topology: Topology) -> Iterator[Folder]:
    for organization in topology.organizations:
        for kind in ("peer", "ca", *SERVICES):
            yield Folder(hospital_volume(organization), kind, kind)
        for slot in CONTRACT_SLOTS:
            yield Folder(hospital_volume(organization), slot, "chaincode")
    for name in orderer_ports(topology):
        yield Folder(ORDERING, name, "orderer")
    yield Folder(STORES, "postgres", "postgres")


def data_folders(topology: Topology) -> Iterator[tuple[Path, str]]:
    """What processes write themselves, and which kind of process."""
    for organization in topology.organizations:
        yield DATA / f"peer-{organization.name}", "peer"
        yield DATA / f"ca-{organization.name}", "ca"
    for name in orderer_ports(topology):
        yield DATA / name, "orderer"
    for store in ("postgres", "kafka"):
        yield DATA / store, store


def addresses(topology: Topology) -> dict[str, tuple[str, int]]:
    """Host and port by the names of `emr_network.ports`. Nodes have the names that their certificates are about."""
    found = {
        "kafka": ("kafka", KAFKA_PORT),
        "postgres": ("postgres", POSTGRES_PORT),
        "issuer": ("issuer", ISSUER_PORT),
    }
    for number, name in enumerate(orderer_ports(topology), start=1):
        host = topology.orderer.node_name(number)
        found |= {name: (host, ORDERER_PORT), f"{name}-admin": (host, ORDERER_ADMIN_PORT)}
        found[f"{name}-operations"] = ("127.0.0.1", OPERATIONS_PORT)
    for organization in topology.organizations:
        name = organization.name
        found[f"peer-{name}"] = (organization.peer_name, PEER_PORT)
        found[f"peer-{name}-internal"] = ("127.0.0.1", PEER_INTERNAL_PORT)
        found[f"peer-{name}-operations"] = ("127.0.0.1", OPERATIONS_PORT)
        found[f"ca-{name}"] = (organization.ca_name, CA_PORT)
        found[f"ca-{name}-operations"] = ("127.0.0.1", OPERATIONS_PORT)
        for contract in (f"chaincode-{name}", f"chaincode-{name}-2"):
            found[contract] = (contract, CHAINCODE_PORT)
        found |= {f"{service}-{name}": (f"balancer-{name}", port) for service, port in BALANCED.items()}
    return found
