"""kill -9 while devnet is administered: each step is done or not, and what was told is done."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import httpx
from hlf.admin import channel
from hlf.admin.errors import BroadcastRefused
from hlf.admin.packaging import ServiceAddress, package
from hlf.errors import HlfError
from support.administration import Administration, Edit
from support.devnet import MSP_IDS, ORDERER_MSP_ID, Devnet, running_devnet
from support.ports import free_address
from support.transactions import Client

A, B = MSP_IDS
ROUNDS = 4
MOST_STEPS = 8
LONGEST_SECONDS = 0.2


@dataclass
class Told:
    """What administrators heard of: how far configuration and definition are, what is installed and open."""

    configuration: int = 0
    definition: int = 1
    packages: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)


class Administering:
    """Four administrators at work at once, each step after step, until devnet does not answer any more."""

    def __init__(self, devnet: Devnet) -> None:
        self.devnet = devnet
        self.admin = Administration(devnet)
        self.told = Told()
        self._numbers = count()
        self._left = 0
        self._enough = asyncio.Event()

    async def run_until_killed(self, chance: random.Random) -> None:
        """The kill comes a little after some of the steps are done: all are under way then."""
        steps = (self._configure, self._upgrade, self._install, self._open_and_close)
        self._left = chance.randint(2, MOST_STEPS)
        self._enough.clear()
        working = [asyncio.create_task(self._repeat(step)) for step in steps]
        await self._enough.wait()
        await asyncio.sleep(chance.uniform(0, LONGEST_SECONDS))
        await self.devnet.kill()
        await asyncio.gather(*working)

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
                self._left -= 1
                if self._left <= 0:
                    self._enough.set()
            except (HlfError, httpx.HTTPError):
                return

    async def _configure(self) -> None:
        """Devnet's orderer answers when the block is on disk; its peers follow."""
        config_update = await self.admin.propose(batch_of(1 + next(self._numbers)))
        try:
            await self.admin.broadcast(config_update, self.admin.sign(config_update, [ORDERER_MSP_ID]))
        except BroadcastRefused as refused:
            if not refused.is_stale:
                raise
            return
        self.told.configuration += 1

    async def _upgrade(self) -> None:
        async with self.admin.lifecycle(A) as of_a, self.admin.lifecycle(B) as of_b:
            committed = await of_a.committed("conformance")
            assert committed is not None
            current = committed.definition
            following = replace(current, sequence=current.sequence + 1)
            for lifecycle in (of_a, of_b):
                approved = await lifecycle.approved("conformance", current.sequence)
                assert approved is not None
                await lifecycle.approve(following, approved[1])
            await of_a.commit(following, MSP_IDS)
            self.told.definition = following.sequence

    async def _install(self) -> None:
        made = package(f"package_{next(self._numbers)}", ServiceAddress(free_address()))
        async with self.admin.peer(A) as peer:
            await peer.install(made)
        self.told.packages.add(made.package_id)

    async def _open_and_close(self) -> None:
        stays, leaves = (f"Hospital{next(self._numbers)}" for _ in range(2))
        await self.devnet.open_peer(stays)
        self.told.opened.add(stays)
        await self.devnet.open_peer(leaves)
        await self.devnet.close_peer(leaves)
        self.told.closed.add(leaves)

    async def check(self) -> None:
        configs = [await self.admin.config(msp_id) for msp_id in MSP_IDS]
        status = await self.devnet.status()
        assert configs[0] == configs[1]
        assert status["sequence"] == configs[0].sequence >= self.told.configuration
        for msp_id in MSP_IDS:
            async with self.admin.lifecycle(msp_id) as lifecycle:
                committed = await lifecycle.committed("conformance")
            assert committed is not None and committed.definition.sequence >= self.told.definition
            assert dict(committed.approvals) == {A: True, B: True}
        async with self.admin.peer(A) as peer:
            assert self.told.packages <= set(await peer.installed())
        running = {one["msp_id"] for one in status["organizations"] if one["running"]}
        assert self.told.opened <= running
        assert not self.told.closed & running


def batch_of(messages: int) -> Edit:
    def edit(group: object) -> None:
        settings = channel.BatchSettings(timedelta(milliseconds=20), max_messages=messages)
        for name, value in channel.batch_values(settings).items():
            group.groups["Orderer"].values[name].CopyFrom(channel.config_value(value))  # type: ignore[attr-defined]

    return edit


async def test_devnet_killed_while_it_is_administered_has_done_each_step_or_not(tmp_path: Path) -> None:
    chance = random.Random(11)
    async with running_devnet(tmp_path) as devnet:
        administering = Administering(devnet)
        for _ in range(ROUNDS):
            await administering.run_until_killed(chance)
            await devnet.start()
            await administering.check()
            async with devnet.gateway(A) as gateway:
                await Client(gateway, devnet.member(A)).submit("put", "k", "v")
    told = administering.told
    assert told.configuration or told.definition > 1 or told.closed
