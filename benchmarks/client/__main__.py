"""hlf against the official Node client on one devnet, in turns: transactions a second and client CPU a transaction.

    python -m benchmarks.client [--rounds 5] [--transactions 300] [--clients 32]

Every client is a process that stays up, so what is compared is work, not starting. In each round every client sends as
many transactions of the same kind; a first round warms everything up and does not count.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import reduce
from operator import add
from pathlib import Path

from support.devnet import running_devnet
from support.node import installed_node

from benchmarks.load import Load, LoadClient

NODE = "Node, fabric-gateway"
STREAM = "hlf, commits from one stream"
CALLS = "hlf, a commit status call each"
AIM = 0.35


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transactions", type=int, default=300, help="of each client in each round")
    parser.add_argument("--clients", type=int, default=32, help="transactions open at once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hlf-bench-") as folder:
        asyncio.run(_measure(Path(folder), arguments.rounds, arguments.transactions, arguments.clients))


async def _measure(folder: Path, rounds: int, transactions: int, clients: int) -> None:
    async with running_devnet(folder) as devnet, AsyncExitStack() as stack:
        node = installed_node()
        script = str(Path(__file__).parent / "node_load.cjs")
        packages = {"NODE_PATH": str(node.folder / "node_modules")}
        hlf = [sys.executable, "-m", "benchmarks.hlf_load"]
        compared = {
            NODE: await stack.enter_async_context(
                LoadClient.started(devnet, [node.program, script], {**node.environment(), **packages})
            ),
            STREAM: await stack.enter_async_context(LoadClient.started(devnet, [*hlf, "tracker"])),
            CALLS: await stack.enter_async_context(LoadClient.started(devnet, [*hlf, "call"])),
        }
        loads = await _in_turns(compared, rounds, transactions, clients)
    _report(loads, f"{rounds} rounds of {transactions} transactions, {clients} at once")


async def _in_turns(
    compared: Mapping[str, LoadClient], rounds: int, transactions: int, clients: int
) -> dict[str, Load]:
    """Each client's sum over all rounds but the first."""
    sent: dict[str, list[Load]] = {name: [] for name in compared}
    first = 0
    for _ in range(rounds + 1):
        for name, client in compared.items():
            sent[name].append(await client.send(first, transactions, clients))
            first += transactions
    return {name: reduce(add, loads[1:]) for name, loads in sent.items()}


def _report(loads: Mapping[str, Load], title: str) -> None:
    node = loads[NODE]
    print(f"\n{title}\n{'':32} {'tx/s':>8} {'x Node':>8} {'CPU ms/tx':>10} {'x Node':>8} {'invalid':>8}")
    for name, load in loads.items():
        rates = f"{load.rate:8.1f} {load.rate / node.rate:8.2f}"
        cpu = load.cpu_ms("client")
        print(f"{name:32} {rates} {cpu:10.2f} {cpu / node.cpu_ms('client'):8.2f} {load.invalid:8}")
    ratio = loads[STREAM].cpu_ms("client") / node.cpu_ms("client")
    print(f"client CPU, {STREAM}: {ratio:.2f} x Node's (aim: at most {AIM})")


if __name__ == "__main__":
    main()
