"""A hospital leaves: first nothing needs its endorsement any more, then it is no member of the channel.

What it has endorsed stays, and so does its own copy of the ledger. Others keep the snapshots that it shared with them
until these are purged; its EMRs take no more notes.
"""

from __future__ import annotations

from dataclasses import dataclass

from emr_network.administration.consortium import Say
from emr_network.home import Home
from emr_network.ports import Ports
from emr_network.topology import Organization, Topology, save
from hlf.admin import edits

from emr_deploy.administration.site import contract
from emr_deploy.administration.underway import finish
from emr_deploy.programs import network_of


@dataclass(frozen=True)
class Removing:
    """`topology` is the network with the hospital in it."""

    home: Home
    topology: Topology
    leaving: Organization
    ports: Ports
    say: Say

    async def run(self) -> Topology:
        """The network without the hospital. Raises HlfError, TopologyError for the last one."""
        remaining = self.topology.without_organization(self.leaving.name)
        everybody = contract(self.home, self.topology, self.ports, self.say)
        staying = [one.msp_id for one in remaining.organizations]
        if self.leaving.msp_id in edits.members(await everybody.consortium.configuration()):
            approving = (
                staying if len(staying) > len(self.topology.organizations) // 2 else [*staying, self.leaving.msp_id]
            )
            await everybody.redefine(self.topology.chaincode.version, remaining.endorsement_policy, approving)
            await everybody.consortium.change(
                f"{self.leaving.msp_id} no member of {self.topology.channel}",
                lambda config: edits.without_organization(config, self.leaving.msp_id),
            )
        others = contract(self.home, remaining, self.ports, self.say)
        sequence = (await others.in_force()).definition.sequence
        network_of(self.home, self.topology, self.ports).close_peers(self.leaving)
        remaining = remaining.with_chaincode(sequence=sequence)
        save(remaining, self.home.topology)
        finish(self.home)
        return remaining
