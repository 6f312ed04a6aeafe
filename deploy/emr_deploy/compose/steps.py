"""The steps of `docker compose up` that run once each time, in this order: volumes, prepare, then nodes start, found.

Each may be repeated, and goes on where it was cut short.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from emr_network.fabric.ca import CONFIGURATION
from emr_network.home import Home
from emr_network.ports import Ports
from emr_network.topology import Topology, load, save

from emr_deploy.compose.places import (
    HOME,
    ISSUER,
    OPERATOR,
    ORDERER_NODES,
    ORDERING,
    RUN,
    STORES,
    USERS,
    addresses,
    data_folders,
    folders,
    hospital_volume,
)
from emr_deploy.system import System

Say = Callable[[str], None]


def containers_topology(path: Path) -> Topology:
    """The hospitals of `path` on official Fabric, with as many orderers as docker-compose.yaml starts."""
    topology = load(path, "fabric")
    return topology.model_copy(
        update={"orderer": topology.orderer.model_copy(update={"nodes": ORDERER_NODES})},
    )


def give_volumes(topology: Topology) -> None:
    """Gives each volume to the operator or to the process that writes it, and makes a folder for each reader.

    Runs as root with the capabilities for just that, and without a network. New volumes belong to root.
    """
    for folder in (HOME, RUN / ISSUER):
        _give(folder, OPERATOR, OPERATOR, 0o700)
    volumes = [*(hospital_volume(one) for one in topology.organizations), ORDERING, STORES]
    for volume in volumes:
        _give(RUN / volume, OPERATOR, OPERATOR, 0o755)
    for place in folders(topology):
        _give(place.path, OPERATOR, USERS[place.kind], 0o2750)
    for folder, kind in data_folders(topology):
        _give(folder, USERS[kind], USERS[kind], 0o700)
        if kind == "ca":
            _link(folder / CONFIGURATION, RUN / "ca" / CONFIGURATION)


def _give(folder: Path, user: int, group: int, mode: int) -> None:
    folder.mkdir(exist_ok=True)
    os.chown(folder, user, group)
    folder.chmod(mode)


def _link(link: Path, target: Path) -> None:
    """fabric-ca-server takes its configuration from where it also writes its database."""
    if not link.is_symlink():
        link.symlink_to(target)


def prepare(home: Home, topology: Topology, say: Say) -> None:
    """Makes what nodes need before they start, and delivers it. The topology of the first time stays."""
    if not home.topology.exists():
        save(topology, home.topology)
    Ports.of_hosts(home.ports, addresses(load(home.topology)))
    system = System(home, say)
    system.make()
    system.network.make()
    system.deliver()
    say("delivered keys and configuration to every process")


async def found(home: Home, say: Say) -> None:
    """On running nodes and stores: channel, contract, identities, databases, topics, administrators; then delivers."""
    system = System(home, say)
    await system.found()
    system.deliver()
    say("the hospitals' services can start")
