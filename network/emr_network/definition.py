"""Which version of the contract is in force on the channel, and who has approved it."""

from __future__ import annotations

from hlf import policies
from hlf.admin.lifecycle import CommittedDefinition, Lifecycle
from hlf.errors import HlfError
from hlf.gateway import Gateway, Timeouts
from hlf.identity import SigningIdentity

from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.organizations import endpoints
from emr_network.ports import Ports
from emr_network.topology import Topology

QUICK = Timeouts(evaluate=3.0, connect=3.0)


async def definition_in_force(home: Home, topology: Topology, ports: Ports) -> CommittedDefinition | None:
    """As the first hospital's peers know it whose peers answer; None when none does or nothing is committed."""
    for organization in topology.organizations:
        try:
            folder = Enrolment(home, organization, ports).admin_folder
            admin = SigningIdentity.from_msp_dir(folder, organization.msp_id)
            async with Gateway(endpoints(home, organization, ports), QUICK) as gateway:
                return await Lifecycle(gateway, admin, topology.channel).committed(topology.chaincode.name)
        except (HlfError, OSError):
            continue
    return None


def describe_policy(policy: bytes | str) -> str:
    """An endorsement policy in words: its expression, or the path of the channel's own."""
    return policy if isinstance(policy, str) else policies.describe(policy)
