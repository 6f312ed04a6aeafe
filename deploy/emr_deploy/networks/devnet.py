"""Devnet: one process that is all peers and the orderer, and forms the channel by itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from emr_network.devnet import ControlFailed, DevnetControl, devnet_member, write_ca_config, write_devnet_config
from emr_network.topology import Organization

from emr_deploy.networks.base import NetworkStatus, PeerStatus, Site, chaincode_process, development_cas
from emr_deploy.process import Process, Stage
from emr_deploy.supervisor import Program


@dataclass(frozen=True)
class DevnetNetwork:
    site: Site

    def make(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        write_devnet_config(self.site.home, self.site.topology, self.site.ports)
        write_ca_config(self.site.home, self.site.topology, self.site.ports)

    def processes(self) -> Iterator[Process]:
        site = self.site
        devnet = Program("devnet", [sys.executable, "-m", "hlf_devnet", str(site.home.network / "devnet.yaml")])
        yield Process(devnet, Stage.NETWORK, site.ports["devnet-control"], "devnet")
        yield from development_cas(site)
        for organization in site.topology.organizations:
            yield chaincode_process(site, organization, site.topology.chaincode)

    async def found(self) -> None:
        """Nothing: devnet does so when it starts."""

    async def status(self) -> NetworkStatus:
        try:
            told = await asyncio.to_thread(DevnetControl.at(self.site.ports).status)
        except ControlFailed:
            told = {"organizations": []}
        found = {one["msp_id"]: one for one in told["organizations"]}
        peers = []
        for organization in self.site.topology.organizations:
            one = found.get(organization.msp_id, {})
            peers.append(
                PeerStatus(
                    organization.name,
                    organization.msp_id,
                    organization.peer_name,
                    bool(one.get("running")),
                    one.get("height"),
                    self.site.ports.address(f"peer-{organization.name}"),
                )
            )
        return NetworkStatus(tuple(peers), told.get("calls", {}))

    async def open_peers(self, organization: Organization) -> None:
        section = devnet_member(self.site.home, self.site.topology, self.site.ports, organization)
        await asyncio.to_thread(DevnetControl.at(self.site.ports).open, section)

    def close_peers(self, organization: Organization) -> None:
        DevnetControl.at(self.site.ports).close(organization.msp_id)

    def stop(self, organization: Organization) -> None:
        DevnetControl.at(self.site.ports).stop(organization.msp_id)

    def start(self, organization: Organization) -> None:
        DevnetControl.at(self.site.ports).start(organization.msp_id)
