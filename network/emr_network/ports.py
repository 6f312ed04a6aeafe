"""Which process listens where: fixed documented ports, or free ones, the same from one start to the next."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from emr_network.topology import Topology

SERVICES = ("registration", "records", "consent", "sharer", "relay", "projector", "indexer")
"""A hospital's processes, in the order of their ports: the first of the topology's `services` port plus 1, 2, …"""
PORTS_BETWEEN_INSTANCES = 10
HOST = "127.0.0.1"


class PortTaken(Exception):
    """A program that is not ours listens on a port that one of our processes needs."""


class Ports:
    """Ports by process: `postgres`, `kafka`, `peer-a`, `records-a`, `records-a-2`, … Kept in one JSON file."""

    def __init__(self, path: Path, numbers: Mapping[str, int], *, free: bool) -> None:
        self._path = path
        self._numbers = dict(numbers)
        self._free = free

    @classmethod
    def plan(cls, path: Path, topology: Topology, *, free: bool = False) -> Ports:
        """The ports that `path` records, and where it records none, those of the topology or (`free`) unused ones."""
        if path.exists():
            return cls._read(path)
        defaults = dict(_defaults(topology))
        ports = cls(path, _free_ports(defaults) if free else defaults, free=free)
        ports._write()
        return ports

    @classmethod
    def _read(cls, path: Path) -> Ports:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls(path, kept["ports"], free=kept["free"])

    def __getitem__(self, name: str) -> int:
        """An instance that another process has added is looked for in the file. KeyError for an unknown name."""
        if name not in self._numbers and self._path.exists():
            self._numbers = self._read(self._path)._numbers
        return self._numbers[name]

    def items(self) -> Iterator[tuple[str, int]]:
        return iter(self._numbers.items())

    def address(self, name: str) -> str:
        return f"{HOST}:{self[name]}"

    def add_instance(self, name: str, first: str, instance: int) -> None:
        """Gives a further instance of `first` a port of its own."""
        if name not in self._numbers:
            default = self._numbers[first] + PORTS_BETWEEN_INSTANCES * (instance - 1)
            self._numbers[name] = _free_ports({name: 0})[name] if self._free else default
            self._write()

    def require_unused(self) -> None:
        """Binds every port for a moment. Raises PortTaken: a port that merely answers may belong to anyone."""
        for name, port in self._numbers.items():
            if not _can_bind(port):
                raise PortTaken(
                    f"port {port}, meant for {name}, is taken by another program: end that program, "
                    "or start with --free-ports in a new EMR_HOME"
                )

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"free": self._free, "ports": self._numbers}
        self._path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _defaults(topology: Topology) -> Iterator[tuple[str, int]]:
    shared = topology.ports
    yield "devnet-control", shared.devnet_control
    yield "issuer", shared.issuer
    yield "kafka", shared.kafka
    yield "kafka-controller", shared.kafka_controller
    yield "postgres", shared.postgres
    for organization in topology.organizations:
        ports = organization.ports
        yield f"peer-{organization.name}", ports.peer
        yield f"chaincode-{organization.name}", ports.chaincode
        yield f"ca-{organization.name}", ports.ca
        for offset, service in enumerate(SERVICES, start=1):
            yield f"{service}-{organization.name}", ports.services + offset


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
