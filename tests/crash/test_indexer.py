"""The short form of `make crash` for the indexer, on the session's running system."""

from crash.indexer import crashing_indexer
from support.stack import Stack

ROUNDS = 2


async def test_killed_under_load_the_rows_are_still_what_the_ledger_says(stack: Stack) -> None:
    async with crashing_indexer(stack, seed=3, stop_seconds=3) as crashing:
        for _ in range(ROUNDS):
            await crashing.run()
    assert crashing.summary.rounds == ROUNDS
    assert crashing.summary.acknowledged > 0
