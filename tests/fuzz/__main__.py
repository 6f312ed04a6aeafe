"""`python -m fuzz`, with `tests` on the path: FUZZ_SECONDS seconds (60) of messages, with the seed FUZZ_SEED (random).

With FUZZ_RECORD=1 the corpus is written anew from what was found; `tests/conformance/test_mutated_messages.py` with
`--record-answers` then asks official peers. With FUZZ_OFFICIAL=1 official peers (PATH or FABRIC_BIN) get the same
changes at the same time: the run fails if devnet accepts what they refuse.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from fuzz import recordings
from fuzz.chaincode import fuzzed_chaincode
from fuzz.comparison import Comparison
from fuzz.fuzzer import Fuzzer
from fuzz.messages import bench_on
from support.devnet import running_devnet
from support.fabric import running_fabric

CHAINCODE_SHARE = 0.25


async def against_devnet(folder: Path, seconds: float, seed: int, *, record: bool) -> None:
    async with running_devnet(folder) as devnet, bench_on(devnet) as bench:
        fuzzer = Fuzzer(devnet, bench, random.Random(seed))
        await fuzzer.run(seconds * (1 - CHAINCODE_SHARE))
        async with fuzzed_chaincode(devnet) as fuzzed:
            await fuzzer.run_chaincode(fuzzed, seconds * CHAINCODE_SHARE)
    tell(fuzzer.answers)
    print(f"{fuzzer.messages} messages, each refused or harmless")
    print(f"devnet grew by at most {fuzzer.largest_growth >> 10} KiB after the first {fuzzer.first_messages} messages")
    if record:
        recordings.write(fuzzer.corpus())


async def against_both(folder: Path, seconds: float, seed: int) -> None:
    """A block that has ended a peer ends it again after a restart, so official peers then begin a new channel."""
    comparison, end, networks = Comparison(random.Random(seed)), time.monotonic() + seconds, count()
    async with running_devnet(folder / "devnet") as devnet, bench_on(devnet) as bench:
        while time.monotonic() < end:
            async with running_fabric(folder / f"fabric-{next(networks)}") as fabric, bench_on(fabric) as official:
                await comparison.run(bench, official, end - seconds * CHAINCODE_SHARE)
                if time.monotonic() > end - seconds * CHAINCODE_SHARE:
                    async with fuzzed_chaincode(devnet) as fuzzed, fuzzed_chaincode(fabric) as fuzzed_official:
                        await comparison.run_chaincode((bench, fuzzed), (official, fuzzed_official), end)
    tell(comparison.answers)
    print(f"{comparison.answers.total()} messages to both")
    for what, lines in (
        ("ended an official peer", comparison.fatal),
        ("devnet is stricter", comparison.stricter),
        ("devnet is more lenient", comparison.more_lenient),
    ):
        print(f"{what}: {len(lines)}", *lines, sep="\n  ")
    if comparison.more_lenient:
        raise SystemExit(1)


def tell(answers: Mapping[Any, int]) -> None:
    for (kind, *told), times in sorted(answers.items()):
        print(f"{kind:20} {' / '.join(told):60} {times}")


async def main(seconds: float, seed: int) -> None:
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        if "FUZZ_OFFICIAL" in os.environ:
            await against_both(Path(folder), seconds, seed)
        else:
            await against_devnet(Path(folder), seconds, seed, record="FUZZ_RECORD" in os.environ)


if __name__ == "__main__":
    asyncio.run(
        main(
            float(os.environ.get("FUZZ_SECONDS", "60")),
            int(os.environ.get("FUZZ_SEED", random.randrange(10**6))),
        )
    )
