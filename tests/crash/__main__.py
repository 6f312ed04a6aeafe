"""`python -m crash [devnet|indexer]`, with `tests` on the path: CRASH_ROUNDS rounds (200) of each, or of one.

CRASH_SEED is the seed (random without it).
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from crash.indexer import crashing_system
from crash.rounds import crashing_devnet


class Rounds(Protocol):
    summary: Any

    async def run(self) -> None: ...


SUITES: dict[str, Callable[[Path, int], AbstractAsyncContextManager[Rounds]]] = {
    "devnet": crashing_devnet,
    "indexer": crashing_system,
}


async def main(suite: str, rounds: int, seed: int) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        async with SUITES[suite](Path(folder), seed) as crashing:
            for number in range(1, rounds + 1):
                await crashing.run()
                if number % 10 == 0:
                    print(f"{suite} {number}/{rounds}: {crashing.summary}", file=sys.stderr, flush=True)
            print(f"{suite}: seed {seed}, {time.monotonic() - started:.0f} s, {crashing.summary}")


if __name__ == "__main__":
    wanted_rounds = int(os.environ.get("CRASH_ROUNDS", "200"))
    wanted_seed = int(os.environ.get("CRASH_SEED", random.randrange(10**6)))
    for name in sys.argv[1:] or SUITES:
        asyncio.run(main(name, wanted_rounds, wanted_seed))
