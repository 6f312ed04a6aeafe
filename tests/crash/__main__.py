"""`python -m crash [devnet|indexer|services|system]`, with `tests` on the path: CRASH_ROUNDS rounds of each, or of one;
200 without it, of the services 100, of the whole system 40.

CRASH_SEED is the seed (random without it). CRASH_LEDGER=fabric runs `services` on official peers (FABRIC_BIN).
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
from crash.pipeline import crashing_indexer_alone
from crash.rounds import crashing_devnet
from crash.services import crashing_hospitals


class Rounds(Protocol):
    summary: Any

    async def run(self) -> None: ...


SUITES: dict[str, tuple[int, Callable[[Path, int], AbstractAsyncContextManager[Rounds]]]] = {
    "devnet": (200, crashing_devnet),
    "indexer": (200, crashing_indexer_alone),
    "services": (100, crashing_hospitals),
    "system": (40, crashing_system),
}


async def main(suite: str, wanted_rounds: str | None, seed: int) -> None:
    started = time.monotonic()
    most, crashing_suite = SUITES[suite]
    rounds = most if wanted_rounds is None else int(wanted_rounds)
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        async with crashing_suite(Path(folder), seed) as crashing:
            for number in range(1, rounds + 1):
                await crashing.run()
                if number % 10 == 0:
                    print(f"{suite} {number}/{rounds}: {crashing.summary}", file=sys.stderr, flush=True)
        print(f"{suite}: seed {seed}, {time.monotonic() - started:.0f} s, {crashing.summary}")


if __name__ == "__main__":
    wanted_seed = int(os.environ.get("CRASH_SEED", random.randrange(10**6)))
    for name in sys.argv[1:] or SUITES:
        asyncio.run(main(name, os.environ.get("CRASH_ROUNDS"), wanted_seed))
