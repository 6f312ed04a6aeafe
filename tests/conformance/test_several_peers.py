"""Two official peers a hospital: one ends without warning while notes are written, and nobody notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from emr_deploy.callers import Answer, Refused
from emr_network.ports import peer_ports
from support.administered import Administered, administered
from support.programs import official_programs
from support.stack import Actor

pytestmark = pytest.mark.timeout(900)


@dataclass
class Scene:
    network: Administered
    physicians: dict[str, Actor]
    patients: list[Actor]

    async def heights(self) -> set[int | None]:
        return {peer.height for peer in (await self.network.system.network.status()).peers}

    async def until_level(self) -> None:
        """Every peer has the same blocks."""

        async def is_level() -> bool:
            heights = await self.heights()
            return None not in heights and len(heights) == 1

        await self.network.until(is_level, "all peers have the same blocks", seconds=180)

    async def contents(self, patient: Actor) -> list[Any]:
        """Of every note, as the hospital's own peers hold them. Raises Refused."""
        path = f"/emrs/{patient.emr_id}/notes?limit=200"
        answer = await self.network.call(self.physicians[patient.organization], "records", "GET", path)
        return [note["content"] for note in answer.required()["notes"]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    official_programs()
    root: Path = tmp_path_factory.mktemp("peers")
    async with administered(root, hospitals=2, orderers=1, peers=2) as network:
        healthcenters = {name: await network.staff(name, "healthcenter") for name in ("a", "b")}
        physicians = {name: await network.staff(name, "physician") for name in ("a", "b")}
        yield Scene(network, physicians, [await network.patient(healthcenters[name]) for name in ("a", "b")])


async def test_every_hospital_has_two_peers_that_agree(scene: Scene) -> None:
    await scene.until_level()
    assert Counter(one.organization for one in (await scene.network.system.network.status()).peers) == {"a": 2, "b": 2}


@pytest.mark.parametrize("place", [0, 1], ids=["the first peer", "the second peer"])
@pytest.mark.parametrize("organization", ["a", "b"])
async def test_a_peer_that_is_killed_under_load_costs_no_note(scene: Scene, organization: str, place: int) -> None:
    network = scene.network
    process = peer_ports(network.hospital(organization))[place]
    async with network.load(scene.patients, scene.physicians) as answers:
        await network.until(lambda: _have(answers, 6), "notes are written", seconds=120)
        await network.kill(process)
        wanted = len(answers) + 12
        await network.until(lambda: _have(answers, wanted), "notes go on", seconds=120)
    failed = Counter((one.status, one.code) for one in answers if one.status != 201)
    assert not failed
    await network.ready(process)
    await scene.until_level()


async def test_either_peer_alone_holds_every_note(scene: Scene) -> None:
    """Of a note a hospital's other peer gets the content from the one that endorsed it, when it is back too."""
    network, patient = scene.network, scene.patients[0]
    await scene.until_level()
    wanted = await scene.contents(patient)
    assert wanted
    for process in peer_ports(network.hospital("a")):
        async with network.stopped(process):

            async def all_there() -> bool:
                try:
                    return await scene.contents(patient) == wanted
                except Refused:
                    return False

            await network.until(all_there, "the other peer gives every note", seconds=120)


async def _have(answers: list[Answer], number: int) -> bool:
    return len(answers) >= number
