"""Which process listens where: fixed documented ports, or free ones, the same from one start to the next.

Where processes run on machines of their own, the file also says by which host each is reached.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from emr_network.topology import Organization, Topology, TopologyError

SERVICES = ("registration", "records", "consent", "sharer", "relay", "projector", "indexer")
"""A hospital's processes, in the order of their ports: the first of the topology's `services` port plus 1, 2, …"""
PORTS_BETWEEN_INSTANCES = 10
HOST = "127.0.0.1"
ORDERER_PORTS = ("", "-admin", "-operations")
"""What an orderer listens for, in the order of its ports."""
PEER_OFFSETS = {"": 0, "-internal": 4, "-operations": 5}
"""What an official peer listens for, by what is added to its port: clients and peers; chaincode that is no service
(never used, yet always open); metrics."""
CA_OPERATIONS_OFFSET = 6


class PortTaken(Exception):
    """A program that is not ours listens on a port that one of our processes needs."""


class Ports:
    """Ports by process: `postgres`, `kafka`, `peer-a`, `records-a`, `records-a-2`, … Kept in one JSON file."""

    def __init__(
        self, path: Path, numbers: Mapping[str, int], *, free: bool, hosts: Mapping[str, str] | None = None
    ) -> None:
        self._path = path
        self._numbers = dict(numbers)
        self._free = free
        self._hosts = dict(hosts or {})

    @classmethod
    def plan(cls, path: Path, topology: Topology, *, free: bool = False) -> Ports:
        """The ports that `path` records, and where it records none, those of the topology or (`free`) unused ones.

        Raises TopologyError when two processes are given the same port."""
        if path.exists():
            kept = cls._read(path)
            if kept._hosts:  # written by whoever runs the nodes: what it leaves out is the topology's
                kept._numbers = {**dict(_defaults(topology)), **kept._numbers}
            return kept
        defaults = dict(_defaults(topology)) if free else _without_clashes(_defaults(topology))
        ports = cls(path, _free_ports(defaults) if free else defaults, free=free)
        ports._write()
        return ports

    @classmethod
    def of_hosts(cls, path: Path, addresses: Mapping[str, tuple[str, int]]) -> Ports:
        """Writes `path` anew: each process on the host and at the port that `addresses` names."""
        numbers = {name: port for name, (_, port) in addresses.items()}
        ports = cls(path, numbers, free=False, hosts={name: host for name, (host, _) in addresses.items()})
        ports._write()
        return ports

    @classmethod
    def _read(cls, path: Path) -> Ports:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls(path, kept["ports"], free=kept["free"], hosts=kept.get("hosts"))

    def __getitem__(self, name: str) -> int:
        """An instance that another process has added is looked for in the file. KeyError for an unknown name."""
        if name not in self._numbers and self._path.exists():
            self._numbers = self._read(self._path)._numbers
        return self._numbers[name]

    def items(self) -> Iterator[tuple[str, int]]:
        return iter(self._numbers.items())

    def address(self, name: str) -> str:
        """Where `name` is reached, `host:port`."""
        return f"{self._hosts.get(name, HOST)}:{self[name]}"

    @property
    def is_elsewhere(self) -> bool:
        """Whether processes run where somebody else starts them, on hosts of their own."""
        return bool(self._hosts)

    def listen_host(self, name: str) -> str:
        """On which addresses `name` listens: all of them where it has a host of its own."""
        return "0.0.0.0" if name in self._hosts else HOST  # noqa: S104

    def extend(self, topology: Topology) -> list[str]:
        """Gives ports to processes that the topology has gained; their names. Raises PortTaken, TopologyError."""
        defaults = dict(_defaults(topology)) if self._free else _without_clashes(_defaults(topology))
        missing = {name: port for name, port in defaults.items() if name not in self._numbers}
        added = _free_ports(missing) if self._free else missing
        _require_unused(added)
        self._numbers |= added
        if added:
            self._write()
        return list(added)

    def drop(self, names: Sequence[str]) -> None:
        """Forgets the ports of processes that are gone for good."""
        self._numbers = {name: port for name, port in self._numbers.items() if name not in names}
        self._write()

    def add_instance(self, name: str, first: str, instance: int) -> None:
        """Gives a further instance of `first` a port of its own."""
        if name not in self._numbers:
            default = self._numbers[first] + PORTS_BETWEEN_INSTANCES * (instance - 1)
            self._numbers[name] = _free_ports({name: 0})[name] if self._free else default
            self._write()

    def require_unused(self) -> None:
        """Binds every port for a moment. Raises PortTaken: a port that merely answers may belong to anyone."""
        _require_unused({name: port for name, port in self._numbers.items() if name not in self._hosts})

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"free": self._free, "ports": self._numbers, **({"hosts": self._hosts} if self._hosts else {})}
        partial = self._path.with_name(f".{self._path.name}.partial")
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(self._path)


def peer_ports(organization: Organization) -> list[str]:
    """The names under which a hospital's peers are found: `peer-a`, `peer-a-2`, …"""
    first = f"peer-{organization.name}"
    return [first, *(f"{first}-{number}" for number in range(2, organization.peers + 1))]


def orderer_ports(topology: Topology) -> list[str]:
    """The names under which orderers are found: `orderer-1`, …"""
    if topology.ledger == "devnet":
        return ["orderer-1"]
    return [f"orderer-{number}" for number in range(1, topology.orderer.nodes + 1)]


def _defaults(topology: Topology) -> Iterator[tuple[str, int]]:
    shared = topology.ports
    if topology.ledger == "devnet":
        yield "devnet-control", shared.devnet_control
        yield "orderer-1", topology.orderer.port
    else:
        yield from _orderer_defaults(topology)
    yield "issuer", shared.issuer
    yield "kafka", shared.kafka
    yield "kafka-controller", shared.kafka_controller
    yield "postgres", shared.postgres
    for organization in topology.organizations:
        ports = organization.ports
        yield from _peer_defaults(topology, organization)
        yield f"chaincode-{organization.name}", ports.chaincode
        yield f"chaincode-{organization.name}-2", ports.chaincode + PORTS_BETWEEN_INSTANCES
        yield f"ca-{organization.name}", ports.ca
        for offset, service in enumerate(SERVICES, start=1):
            yield f"{service}-{organization.name}", ports.services + offset


def _orderer_defaults(topology: Topology) -> Iterator[tuple[str, int]]:
    for position, name in enumerate(orderer_ports(topology)):
        for offset, purpose in enumerate(ORDERER_PORTS):
            yield f"{name}{purpose}", topology.orderer.port + PORTS_BETWEEN_INSTANCES * position + offset


def _peer_defaults(topology: Topology, organization: Organization) -> Iterator[tuple[str, int]]:
    first = organization.ports.peer
    if topology.ledger == "devnet":
        yield f"peer-{organization.name}", first
        return
    for position, name in enumerate(peer_ports(organization)):
        for purpose, offset in PEER_OFFSETS.items():
            yield f"{name}{purpose}", first + PORTS_BETWEEN_INSTANCES * position + offset
    yield f"ca-{organization.name}-operations", first + CA_OPERATIONS_OFFSET


def _without_clashes(defaults: Iterator[tuple[str, int]]) -> dict[str, int]:
    """Raises TopologyError."""
    names: dict[int, str] = {}
    for name, port in defaults:
        if port in names:
            raise TopologyError(f"port {port} is given to both {names[port]} and {name}")
        names[port] = name
    return {name: port for port, name in names.items()}


def _require_unused(numbers: Mapping[str, int]) -> None:
    for name, port in numbers.items():
        if not _can_bind(port):
            raise PortTaken(
                f"port {port}, meant for {name}, is taken by another program: end that program, "
                "or start with --free-ports in a new EMR_HOME"
            )


def _free_ports(names: Mapping[str, int]) -> dict[str, int]:
    """Unused ports, all different: every socket stays open until the last port is known."""
    sockets = [socket.create_server((HOST, 0)) for _ in names]
    try:
        return {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    finally:
        for one in sockets:
            one.close()


def _can_bind(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


async def accepts(port: int) -> bool:
    """Whether somebody listens there; it may be anyone."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True
