"""The short form of `make crash` for the services, on the session's running system."""

from crash.services import crashing_services
from support.stack import Stack

KILLS = 10


async def test_services_killed_under_load_lose_and_double_nothing(stack: Stack) -> None:
    async with crashing_services(stack, seed=5) as crashing:
        await crashing.run(KILLS)
    assert crashing.summary.killed.total() == KILLS
    assert crashing.summary.answered.total() > 0
