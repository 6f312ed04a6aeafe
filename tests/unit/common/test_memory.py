"""What a process gives back of its memory."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
from pathlib import Path
from emr_common import memory

memory.EVERY_SECONDS = 0.01

def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

async def main():
    kept = [bytes(4000) for _ in range(10_000)]
    del kept[::2], kept[:-1]  # what is left stands at the end of the heap, and holds it
    before = resident_kib()
    async with memory.given_back():
        while resident_kib() > before - 20_000:
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_pages_that_nothing_is_in_are_given_back_while_a_process_runs() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
