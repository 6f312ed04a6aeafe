"""Work beside requests: each piece by one instance at a time, and what fails is tried again."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from emr_common import background
from emr_common.background import BackgroundWork
from emr_common.locks import AdvisoryLocks
from emr_common.problems import Problem
from emr_model.ledger.codes import Code
from sqlalchemy.ext.asyncio import AsyncEngine


class Baskets(BackgroundWork):
    """Pieces with a number of things in each; taking one yields to whoever else would take it at once."""

    def __init__(self, locks: AdvisoryLocks, left: dict[str, int], taken: list[str]) -> None:
        super().__init__("baskets", locks, poll_seconds=0.05)
        self._left = left
        self._taken = taken
        self.failures: list[Exception] = []

    async def waiting(self) -> Sequence[str]:
        return [name for name, left in self._left.items() if left]

    async def do(self, name: str) -> None:
        if self.failures:
            raise self.failures.pop()
        while left := self._left[name]:
            await asyncio.sleep(0.001)
            self._left[name] = left - 1
            self._taken.append(name)


@pytest.fixture
async def locks(engine: AsyncEngine) -> AsyncIterator[AdvisoryLocks]:
    async with AdvisoryLocks.opened(engine.url, "tests") as opened:
        yield opened


async def until_empty(left: dict[str, int]) -> None:
    async with asyncio.timeout(30):
        while any(left.values()):
            await asyncio.sleep(0.01)


async def test_two_instances_do_each_piece_once(engine: AsyncEngine, locks: AdvisoryLocks) -> None:
    left, taken = {f"basket-{number}": 3 for number in range(20)}, list[str]()
    async with (
        AdvisoryLocks.opened(engine.url, "tests") as others,
        Baskets(locks, left, taken).running(),
        Baskets(others, left, taken).running(),
    ):
        await until_empty(left)
    assert sorted(taken) == sorted(name for name in left for _ in range(3))


async def test_what_may_go_better_later_is_tried_again(locks: AdvisoryLocks) -> None:
    left, taken = {"basket": 1}, list[str]()
    work = Baskets(locks, left, taken)
    work.failures = [Problem(Code.OVERLOADED), OSError()]
    async with work.running():
        await until_empty(left)
    assert taken == ["basket"]


async def test_a_fault_of_ours_holds_up_its_own_piece_alone(
    locks: AdvisoryLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "BROKEN_SECONDS", 3600.0)
    left, taken = {"broken": 1, "whole": 1}, list[str]()
    work = Baskets(locks, left, taken)
    work.failures = [KeyError("a fault")]
    async with work.running():
        async with asyncio.timeout(30):
            while not taken:
                await asyncio.sleep(0.01)
    assert (taken, left) == (["whole"], {"broken": 1, "whole": 0})
