import asyncio

import pytest
import sqlalchemy as sa
from emr_common.locks import AdvisoryLocks
from emr_common.problems import Problem
from sqlalchemy.ext.asyncio import AsyncEngine


class Room:
    """Counts how many are in it at once."""

    def __init__(self) -> None:
        self.inside = self.most = self.visits = 0

    async def enter(self, seconds: float = 0.001) -> None:
        self.inside += 1
        self.visits += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(seconds)
        self.inside -= 1


async def visit(locks: AdvisoryLocks, room: Room, name: str = "emr") -> None:
    async with locks.hold(name):
        await room.enter()


async def test_one_holds_a_name_at_a_time_within_a_process_and_across(engine: AsyncEngine) -> None:
    room = Room()
    one, other = AdvisoryLocks(engine.url, "tests"), AdvisoryLocks(engine.url, "tests")
    await asyncio.gather(*(visit(locks, room) for locks in (one, other) for _ in range(20)))
    assert (room.visits, room.most) == (40, 1)
    await one.close()
    await other.close()


async def test_other_names_do_not_wait_and_all_locks_need_one_connection(engine: AsyncEngine) -> None:
    room, locks = Room(), AdvisoryLocks(engine.url, "tests")

    async def visit_slowly(name: str) -> None:
        async with locks.hold(name):
            await room.enter(0.3)

    await asyncio.gather(*(visit_slowly(f"emr-{number}") for number in range(30)))
    assert room.most > 20
    await locks.close()


async def test_whoever_waits_too_long_is_told_that_there_is_too_much_to_do(engine: AsyncEngine) -> None:
    one, other = AdvisoryLocks(engine.url, "tests"), AdvisoryLocks(engine.url, "tests")
    async with one.hold("emr"):
        for locks in (one, other):
            with pytest.raises(Problem, match="OVERLOADED"):
                async with locks.hold("emr", wait_seconds=0.1):
                    raise AssertionError("held twice")
    await asyncio.wait_for(visit(other, Room()), 5)
    await one.close()
    await other.close()


async def test_a_lock_that_is_taken_is_not_waited_for(engine: AsyncEngine) -> None:
    one, other = AdvisoryLocks(engine.url, "tests"), AdvisoryLocks(engine.url, "tests")
    async with one.try_hold("job") as is_mine, one.try_hold("job") as again, other.try_hold("job") as elsewhere:
        assert (is_mine, again, elsewhere) == (True, False, False)
    async with other.try_hold("job") as is_mine:
        assert is_mine
    await one.close()
    await other.close()


async def test_a_process_that_ends_leaves_its_locks_to_others(engine: AsyncEngine) -> None:
    one, other = AdvisoryLocks(engine.url, "tests"), AdvisoryLocks(engine.url, "tests")
    async with one.try_hold("job"):
        await one.close()
        async with other.try_hold("job") as is_mine:
            assert is_mine
    await other.close()


async def test_a_connection_that_breaks_is_replaced(engine: AsyncEngine) -> None:
    locks = AdvisoryLocks(engine.url, "tests")
    async with locks.hold("emr"), engine.connect() as connection:
        others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        await connection.execute(sa.text(f"{others} and datname = current_database()"))
    room = Room()
    for _ in range(2):
        try:
            await visit(locks, room)
        except Problem:
            continue
    assert room.visits >= 1
    await locks.close()


async def test_a_caller_that_goes_away_leaves_no_lock_behind(engine: AsyncEngine) -> None:
    locks = AdvisoryLocks(engine.url, "tests")

    async def hold_for_ever() -> None:
        async with locks.hold("emr"):
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(hold_for_ever()) for _ in range(5)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(visit(locks, Room()), 5)
    other = AdvisoryLocks(engine.url, "tests")
    await asyncio.wait_for(visit(other, Room()), 5)
    await locks.close()
    await other.close()
