"""`python -m crash`, with `tests` on the path: CRASH_ROUNDS rounds (200), with the seed CRASH_SEED (random)."""

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from crash.rounds import crashing_devnet


async def main(rounds: int, seed: int) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        async with crashing_devnet(Path(folder), seed) as crashing:
            for number in range(1, rounds + 1):
                await crashing.run()
                if number % 10 == 0:
                    print(f"{number}/{rounds}", file=sys.stderr, flush=True)
        print(f"seed {seed}, {time.monotonic() - started:.0f} s, {crashing.summary}")


if __name__ == "__main__":
    asyncio.run(
        main(int(os.environ.get("CRASH_ROUNDS", "200")), int(os.environ.get("CRASH_SEED", random.randrange(10**6))))
    )
