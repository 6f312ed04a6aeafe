"""hlf as a client process of `benchmarks.load`: `python -m benchmarks.hlf_load tracker|call CONNECTION.json`.

`tracker` learns of commits from one stream for the whole process, as the services do; `call` asks the gateway for each
transaction, as the official clients do.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hlf.commits import CommitTracker
from hlf.crypto import private_key_from_pem
from hlf.gateway import CommitStatus, Endpoint, Gateway, Transaction
from hlf.identity import SigningIdentity

COMMIT_SECONDS = 60.0
Commit = Callable[[Transaction], Awaitable[CommitStatus]]


async def main(way: str, connection_file: Path) -> None:
    connection = json.loads(connection_file.read_text())
    key = private_key_from_pem(connection["privateKey"].encode())
    signer = SigningIdentity(connection["mspId"], connection["certificate"].encode(), key)
    async with AsyncExitStack() as stack:
        endpoint = Endpoint(connection["address"], connection["tlsCa"].encode())
        gateway = await stack.enter_async_context(Gateway([endpoint]))
        commit = _by_calls(gateway, signer, connection["channel"])
        if way == "tracker":
            commit = _by_stream(await stack.enter_async_context(CommitTracker(gateway, signer, connection["channel"])))
        send = _sender(gateway, signer, connection, commit)
        while line := await asyncio.to_thread(sys.stdin.readline):
            first, count, clients = (int(word) for word in line.split())
            print(json.dumps(await _run(send, range(first, first + count), clients)), flush=True)


def _by_stream(tracker: CommitTracker) -> Commit:
    async def commit(transaction: Transaction) -> CommitStatus:
        pending = tracker.expect(transaction.transaction_id)
        await transaction.submit()
        return await pending.outcome(COMMIT_SECONDS)

    return commit


def _by_calls(gateway: Gateway, signer: SigningIdentity, channel: str) -> Commit:
    async def commit(transaction: Transaction) -> CommitStatus:
        await transaction.submit()
        return await gateway.commit_status(signer, channel, transaction.transaction_id)

    return commit


def _sender(
    gateway: Gateway, signer: SigningIdentity, connection: dict[str, Any], commit: Commit
) -> Callable[[int], Awaitable[bool]]:
    contract = gateway.contract(signer, connection["channel"], connection["chaincode"])

    async def send(number: int) -> bool:
        transient, endorsers = {"value": f"{number:>100}".encode()}, connection["endorsers"]
        proposal = contract.propose(
            "bench", f"{number:08}", str(number % 100), transient=transient, endorsing_organizations=endorsers
        )
        return (await commit(await proposal.endorse())).is_valid

    return send


async def _run(send: Callable[[int], Awaitable[bool]], numbers: range, clients: int) -> dict[str, Any]:
    left: Iterator[int] = iter(numbers)
    started = time.perf_counter()
    outcomes: list[bool] = []

    async def client() -> None:
        for number in left:
            outcomes.append(await send(number))

    await asyncio.gather(*(client() for _ in range(clients)))
    return {"seconds": time.perf_counter() - started, "invalid": outcomes.count(False)}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
