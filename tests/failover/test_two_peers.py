"""The whole system on official Fabric with two peers a hospital: each of the four is killed, and hangs, while notes are
written, and nothing is lost.

Takes minutes: `make failover`, with Fabric's programs.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from emr_deploy.bundles import make_histories
from emr_deploy.callers import Callers
from emr_deploy.story.telling import Teller
from emr_deploy.story.whole import tell
from emr_model.clinical.facts import note_text
from emr_network.ports import peer_ports
from support.programs import official_programs
from support.stack import Actor, Stack, running_stack
from support.topologies import fabric_topology

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("FAILOVER"), reason="a long case: make failover"),
]

PASSING = {202, 409, 503}
"""Tried again under the same Idempotency-Key: not known yet, still under way, a part is away."""
PLACES = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
NOTES_MEANWHILE = 20


@dataclass
class Writer:
    """Writes a patient's notes, each until it is taken."""

    system: Stack
    patient: Actor
    physician: Actor
    taken: list[str] = field(default_factory=list)
    answers: Counter[tuple[int, str | None]] = field(default_factory=Counter)

    async def write(self) -> None:
        """One note. AssertionError for an answer after which nobody would try again."""
        text, headers = secrets.token_hex(8), {"Idempotency-Key": secrets.token_hex(8)}
        path = f"/emrs/{self.patient.emr_id}/notes"
        while True:
            answer = await self.system.call(self.physician, "records", "POST", path, {"text": text}, headers=headers)
            self.answers[answer.status, answer.code] += 1
            if answer.status in (200, 201):
                self.taken.append(text)
                return
            assert answer.status in PASSING, answer
            await asyncio.sleep(0.2)


@dataclass
class Scene:
    system: Stack
    writers: list[Writer]

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        stopped = asyncio.Event()

        async def go_on(writer: Writer) -> None:
            while not stopped.is_set():
                await writer.write()

        async with asyncio.TaskGroup() as tasks:
            for writer in self.writers:
                tasks.create_task(go_on(writer))
            try:
                yield
            finally:
                stopped.set()

    async def until_written(self, count: int) -> None:
        """Until so many more notes were taken of every patient."""
        wanted = [len(writer.taken) + count for writer in self.writers]

        async def written() -> bool:
            return all(len(writer.taken) >= one for writer, one in zip(self.writers, wanted, strict=True))

        await self.system.until(written, f"{count} more notes of every patient", seconds=180)

    def told(self) -> Counter[tuple[int, str | None]]:
        """What was answered since it was asked last."""
        told: Counter[tuple[int, str | None]] = Counter()
        for writer in self.writers:
            told += writer.answers
            writer.answers.clear()
        return told

    async def until_recovered(self) -> None:
        """All peers have the same blocks and know each other: each gets a copy of what the other endorses."""
        names = [name for one in self.system.organizations for name in peer_ports(one)]

        async def recovered() -> bool:
            heights = {peer.height for peer in (await self.system.system.network.status()).peers}
            return None not in heights and len(heights) == 1 and all(map(self._knows_all_others, names))

        await self.system.until(recovered, "all four peers are level and know each other", seconds=180)

    def _knows_all_others(self, name: str) -> bool:
        address = self.system.system.ports.address(f"{name}-operations")
        metrics = httpx.get(f"http://{address}/metrics", trust_env=False).text
        known = re.search(r'^gossip_membership_total_peers_known\{channel="care"\} (\S+)', metrics, re.MULTILINE)
        return known is not None and float(known[1]) == len(PLACES) - 1

    async def tell(self) -> None:
        """Both workflows, to their end."""
        system, teller = self.system.system, Teller(lambda _: None)
        histories = list(make_histories(5, seed=secrets.randbelow(10**6)))
        async with Callers(system.home, system.ports) as callers:
            last = await tell(system.topology, callers, histories, teller, tag=secrets.token_hex(3))
        for name in ("a", "b"):
            await self.system.wait_for_rows(name, last)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    official_programs()
    root: Path = tmp_path_factory.mktemp("failover")
    async with running_stack(root, "fabric", topology=fabric_topology(root, peers=2)) as system:
        writers = []
        for name in ("a", "b"):
            physician = await system.staff(name, "physician")
            healthcenter = await system.staff(name, "healthcenter")
            writers += [Writer(system, await system.patient(healthcenter), physician) for _ in range(2)]
        yield Scene(system, writers)


def process_of(scene: Scene, organization: str, place: int) -> str:
    return peer_ports(scene.system.hospital(organization))[place]


async def test_both_workflows_are_told(scene: Scene) -> None:
    await scene.tell()


@pytest.mark.parametrize(("organization", "place"), PLACES)
async def test_a_peer_that_is_killed_costs_no_note(scene: Scene, organization: str, place: int) -> None:
    process = process_of(scene, organization, place)
    async with scene.load():
        await scene.until_written(2)
        await scene.system.kill(process)
        await scene.until_written(NOTES_MEANWHILE)
    print(f"{process} killed: {dict(scene.told())}")
    await scene.system.ready(process)
    await scene.until_recovered()


@pytest.mark.parametrize(("organization", "place"), PLACES)
async def test_notes_go_on_while_a_peer_hangs(scene: Scene, organization: str, place: int) -> None:
    process = process_of(scene, organization, place)
    async with scene.load():
        await scene.until_written(2)
        async with scene.system.hanging(process):
            await scene.until_written(NOTES_MEANWHILE)
    print(f"{process} hanging: {dict(scene.told())}")
    await scene.system.ready(process)
    await scene.until_recovered()


async def test_every_note_that_was_taken_is_on_the_ledger_once_and_in_the_rows_of_both(scene: Scene) -> None:
    await scene.until_recovered()
    for writer in scene.writers:
        assert await _texts(scene.system, writer) == writer.taken
    query = "select emr_id, owner_msp, version, visits, life from care.emr order by emr_id"
    for name in ("a", "b"):
        await scene.system.wait_for_rows(name)
    rows = {name: await scene.system.sql(name, query) for name in ("a", "b")}
    assert rows["a"] == rows["b"]
    versions = {row["emr_id"]: row["version"] for row in rows["a"]}
    assert {writer.patient.emr_id: len(writer.taken) for writer in scene.writers}.items() <= versions.items()
    print(f"{sum(len(writer.taken) for writer in scene.writers)} notes taken, none lost, none twice")


async def test_both_workflows_are_told_again(scene: Scene) -> None:
    await scene.tell()


async def _texts(system: Stack, writer: Writer) -> list[str]:
    texts: list[str] = []
    start: int | None = 1
    while start is not None:
        path, page = f"/emrs/{writer.patient.emr_id}/notes", {"from": start, "limit": 200}
        answer = (await system.call(writer.physician, "records", "GET", path, params=page)).required()
        texts += [str(note_text(one["content"])) for one in answer["notes"]]
        start = answer["next"]
    return texts
