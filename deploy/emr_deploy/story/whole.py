"""The story from its beginning to its end, on a running system."""

from __future__ import annotations

from collections.abc import Sequence

from emr_network.topology import Topology

from emr_deploy.bundles import PatientBundle
from emr_deploy.callers import Callers
from emr_deploy.story.managing import enrol_staff, manage
from emr_deploy.story.scene import Scene, require
from emr_deploy.story.sharing import share
from emr_deploy.story.telling import Teller

FEWEST_PATIENTS = 3


async def tell(
    topology: Topology, callers: Callers, bundles: Sequence[PatientBundle], teller: Teller, *, tag: str = ""
) -> int:
    """Returns the newest block that an answer named. Raises StoryBroken at the first step that goes otherwise."""
    require(len(bundles) >= FEWEST_PATIENTS, f"the story needs {FEWEST_PATIENTS} patients or more")
    require(len(topology.organizations) > 1, "the story needs two hospitals")
    owner, other = topology.organizations[:2]
    scene = Scene(owner, other, callers, teller, bundles, tag)
    await enrol_staff(scene)
    await share(scene, await manage(scene))
    return scene.last_block
