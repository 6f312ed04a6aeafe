"""The short form of `make crash`."""

from pathlib import Path

from crash.rounds import crashing_devnet

ROUNDS = 5


async def test_devnet_killed_under_load_loses_nothing_that_it_told_of(tmp_path: Path) -> None:
    async with crashing_devnet(tmp_path, seed=4) as crashing:
        for _ in range(ROUNDS):
            await crashing.run()
    assert crashing.summary.rounds == ROUNDS
    assert crashing.summary.acknowledged > 0
