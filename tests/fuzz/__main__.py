"""`python -m fuzz`, with `tests` on the path: FUZZ_SECONDS seconds (60) of messages, with the seed FUZZ_SEED (random).

With FUZZ_RECORD=1 the corpus is written anew from what was found; `tests/conformance/test_mutated_messages.py` with
`--record-answers` then asks official peers.
"""

import asyncio
import os
import random
import tempfile
from pathlib import Path

from fuzz import recordings
from fuzz.chaincode import fuzzed_chaincode
from fuzz.fuzzer import Fuzzer
from fuzz.messages import bench_on
from support.devnet import running_devnet

CHAINCODE_SHARE = 0.25


async def main(seconds: float, seed: int, *, record: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        async with running_devnet(Path(folder)) as devnet, bench_on(devnet) as bench:
            fuzzer = Fuzzer(devnet, bench, random.Random(seed))
            print(f"seed {seed}", flush=True)
            await fuzzer.run(seconds * (1 - CHAINCODE_SHARE))
            async with fuzzed_chaincode(devnet) as fuzzed:
                await fuzzer.run_chaincode(fuzzed, seconds * CHAINCODE_SHARE)
    for (kind, answer), times in sorted(fuzzer.answers.items()):
        print(f"{kind:20} {answer:40} {times}")
    print(f"{fuzzer.messages} messages, each refused or harmless")
    if record:
        recordings.write(fuzzer.corpus())


if __name__ == "__main__":
    asyncio.run(
        main(
            float(os.environ.get("FUZZ_SECONDS", "60")),
            int(os.environ.get("FUZZ_SEED", random.randrange(10**6))),
            record="FUZZ_RECORD" in os.environ,
        )
    )
