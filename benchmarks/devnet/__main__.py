"""devnet under load: start-up, transactions a second, CPU a transaction, memory, and what changes as the chain grows.

    python -m benchmarks.devnet [--transactions 2000] [--clients 32]

hlf sends the transactions from a process of its own, in tenths; the first tenth is compared with the last. For the
growth over 100,000 transactions give `--transactions 100000`.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

from support.devnet import MSP_IDS, Devnet, new_devnet

from benchmarks.load import HOME, Load, LoadClient, cpu_seconds, groups, memory_mb

PARTS = 10
WARM_UP = 200
ALONE = 20
RATE_AIM, READY_AIM, MEMORY_AIM = 250, 2, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--transactions", type=int, default=2000, help="in all, after a warm-up")
    parser.add_argument("--clients", type=int, default=32, help="transactions open at once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="devnet-bench-") as folder:
        asyncio.run(_measure(new_devnet(Path(folder)), arguments.transactions, arguments.clients))


async def _measure(devnet: Devnet, transactions: int, clients: int) -> None:
    try:
        ready = await _start(devnet)
        print(f"ready after                {ready:8.2f} s      (aim: {READY_AIM})")
        print(f"CPU until then             {sum(map(cpu_seconds, groups(devnet)['network'])):8.2f} s")
        print(f"memory at rest             {_memory(devnet):8.0f} MiB    (aim: under {MEMORY_AIM}, always)")
        command = [sys.executable, "-m", "benchmarks.hlf_load", "tracker"]
        async with LoadClient.started(devnet, command) as client:
            await client.send(0, WARM_UP - ALONE, clients)
            alone = await client.send(WARM_UP - ALONE, ALONE, 1)
            print(f"one transaction alone      {1000 / alone.rate:8.0f} ms")
            loads, memory = await _in_parts(devnet, client, transactions, clients)
    finally:
        await devnet.close()
    _report(loads, memory, _stored_bytes(devnet) / (transactions + WARM_UP))


async def _start(devnet: Devnet) -> float:
    """Seconds from starting devnet, its chaincodes being up, to the first answer of a chaincode."""
    for msp_id in MSP_IDS:
        await devnet.start_chaincode(msp_id)
    await _listening([member.chaincode_address for name, member in devnet.members.items() if name in MSP_IDS])
    started = time.perf_counter()
    await devnet.start()
    async with devnet.gateway(HOME) as gateway:
        await gateway.contract(devnet.member(HOME), devnet.channel, devnet.chaincode).evaluate("get", "nothing")
    return time.perf_counter() - started


async def _listening(addresses: Sequence[str]) -> None:
    for address in addresses:
        host, _, port = address.rpartition(":")
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break


async def _in_parts(
    devnet: Devnet, client: LoadClient, transactions: int, clients: int
) -> tuple[list[Load], list[float]]:
    """Each tenth, and devnet's memory after it."""
    loads, memory = [], []
    size = max(transactions // PARTS, 1)
    for part in range(PARTS):
        loads.append(await client.send(WARM_UP + part * size, size, clients))
        memory.append(_memory(devnet))
    return loads, memory


def _memory(devnet: Devnet) -> float:
    return sum(memory_mb(pid) for pid in groups(devnet)["network"])


def _stored_bytes(devnet: Devnet) -> float:
    return sum(path.stat().st_size for path in (devnet.folder / "data").rglob("*") if path.is_file())


def _report(loads: Sequence[Load], memory: Sequence[float], bytes_each: float) -> None:
    total, first, last = reduce(add, loads), loads[0], loads[-1]
    print(f"transactions a second      {total.rate:8.1f}        (aim: {RATE_AIM}); {total.invalid} invalid")
    for group in ("network", "chaincode", "client"):
        print(f"CPU ms/tx, {group:10}      {total.cpu_ms(group):8.2f}")
    print(f"CPU ms/tx, all             {sum(total.cpu_ms(group) for group in total.cpu):8.2f}")
    print(f"memory under load, most    {max(memory):8.0f} MiB")
    print(f"stored bytes/tx            {bytes_each:8.0f}        three copies of the chain: two hospitals, orderer")
    print(f"\n{'of ' + str(first.transactions) + ' transactions':27} {'first':>8} {'last':>8}   last/first")
    _compare("transactions a second", first.rate, last.rate)
    _compare("network CPU ms/tx", first.cpu_ms("network"), last.cpu_ms("network"))
    _compare("memory MiB", memory[0], memory[-1])


def _compare(name: str, first: float, last: float) -> None:
    print(f"{name:27} {first:8.2f} {last:8.2f} {last / first:8.2f}")


if __name__ == "__main__":
    main()
