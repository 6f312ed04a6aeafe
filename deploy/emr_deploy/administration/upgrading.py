"""Another version of the contract: the new processes run beside the old ones until its definition is in force."""

from __future__ import annotations

from dataclasses import dataclass

from emr_network.administration.consortium import Say
from emr_network.home import Home
from emr_network.ports import Ports
from emr_network.topology import Chaincode, Topology, save

from emr_deploy.administration.site import contract
from emr_deploy.administration.starting import Starter
from emr_deploy.administration.underway import finish
from emr_deploy.networks.base import Site, chaincode_process, package_of


@dataclass(frozen=True)
class Upgrading:
    """`topology` is the network on the old version, `chaincode` the new one in the other slot."""

    home: Home
    topology: Topology
    chaincode: Chaincode
    ports: Ports
    starter: Starter
    say: Say

    async def run(self) -> Topology:
        """Writes go on: an endorsement of the old version that meets the new definition is refused as any lost race
        is, and made again. Raises HlfError, NotReady, NotStarted."""
        site = Site(self.home, self.topology, self.ports)
        everybody = contract(self.home, self.topology, self.ports, self.say)
        packages = {one.msp_id: package_of(site, one, self.chaincode) for one in self.topology.organizations}
        for msp_id, package in packages.items():
            await everybody.install(msp_id, package)
        processes = [chaincode_process(site, one, self.chaincode) for one in self.topology.organizations]
        await self.starter.start(processes, self.say)
        members = [one.msp_id for one in self.topology.organizations]
        definition = await everybody.redefine(
            self.chaincode.version, self.topology.endorsement_policy, members, packages
        )
        topology = self.topology.with_chaincode(
            version=self.chaincode.version, sequence=definition.sequence, slot=self.chaincode.slot, packaged=True
        )
        save(topology, self.home.topology)
        finish(self.home)
        return topology
