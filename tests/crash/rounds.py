"""Rounds of kill -9: devnet under load, killed at a random moment, started again, compared with what it had told.

Load is transactions with public and private writes from both hospitals, and a counter on which they conflict. After
each restart the blocks since the last round must link, be the same bytes at both hospitals, and hold every transaction
of which any client was told; the state must be what the valid ones wrote.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from hlf.blocks import Block, Checkpoint
from hlf.deliver import FullKind, deliver
from hlf.errors import HlfError
from hlf.gateway import Gateway, Timeouts
from support.devnet import MSP_IDS, Devnet, running_devnet
from support.transactions import Client

A, B = MSP_IDS
COLLECTION = f"_implicit_org_{A}"
CLIENTS = 6
"""At each hospital."""
LONGEST_LOAD_SECONDS = 1.2
VALID = 0
IMPATIENT = Timeouts(evaluate=15, endorse=15, submit=15, commit_status=15, connect=5)


@dataclass
class Told:
    """What clients heard in a round. `submitted`: ids whose Submit was answered; `committed`: id to (block, code)."""

    submitted: set[str] = field(default_factory=set)
    committed: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Summary:
    rounds: int = 0
    blocks: int = 0
    transactions: int = 0
    invalid: int = 0
    acknowledged: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds: {self.acknowledged} transactions acknowledged, none lost; {self.blocks} blocks "
            f"with {self.transactions} transactions ({self.invalid} invalid by conflict), linked and equal everywhere"
        )


@asynccontextmanager
async def crashing_devnet(folder: Path, seed: int) -> AsyncIterator["Rounds"]:
    async with running_devnet(folder) as devnet:
        yield Rounds(devnet, random.Random(seed))


class Rounds:
    """Each call of `run` is one round; whatever is wrong afterwards is an AssertionError."""

    def __init__(self, devnet: Devnet, chance: random.Random) -> None:
        self.summary = Summary()
        self._devnet = devnet
        self._chance = chance
        self._identities = {msp_id: devnet.member(msp_id) for msp_id in MSP_IDS}
        self._checked: Checkpoint | None = None
        self._state: dict[str, bytes] = {}
        self._private: dict[str, bytes] = {}
        self._names = count()
        self._killed = False

    async def run(self) -> None:
        told = await self._load_until_killed()
        await self._devnet.start()
        async with AsyncExitStack() as stack:
            gateways = [await stack.enter_async_context(self._devnet.gateway(msp_id, IMPATIENT)) for msp_id in MSP_IDS]
            blocks = await self._new_blocks(gateways)
            changed = self._check_told(blocks, told)
            await self._check_state(gateways, changed)
        self.summary.rounds += 1
        self.summary.acknowledged += len(told.submitted)

    async def _load_until_killed(self) -> Told:
        told, self._killed = Told(), False
        async with AsyncExitStack() as stack:
            clients = []
            for msp_id in MSP_IDS:
                gateway = await stack.enter_async_context(self._devnet.gateway(msp_id, IMPATIENT))
                clients += [Client(gateway, self._identities[msp_id])] * CLIENTS
            working = [asyncio.create_task(self._work(client, told)) for client in clients]
            await asyncio.sleep(self._chance.uniform(0, LONGEST_LOAD_SECONDS))
            self._killed = True
            await self._devnet.kill()
            await _end(working)
        return told

    async def _work(self, client: Client, told: Told) -> None:
        """Until devnet is gone."""
        while True:
            name = f"c-{next(self._names)}"
            counts = self._chance.random() < 0.2
            call = ("increment", "counter") if counts else ("put_both", COLLECTION, name, name)
            try:
                transaction = await client.endorse(*call, transient={"value": name.encode()})
                await transaction.submit()
                told.submitted.add(transaction.transaction_id)
                status = await client.status(transaction.transaction_id)
            except HlfError as error:
                if self._killed:
                    return
                if "ProposalResponsePayloads do not match" not in str(error):  # the counter moved between two hospitals
                    raise
                continue
            told.committed[transaction.transaction_id] = (status.block_number, status.validation_code)

    async def _new_blocks(self, gateways: list[Gateway]) -> list[Block]:
        """Those that no round has seen: `deliver` checks numbers, links and hashes, from the last one checked."""
        heights = {one["msp_id"]: one["height"] for one in (await self._devnet.status())["organizations"]}
        assert len(set(heights.values())) == 1, f"heights differ: {heights}"
        found = [
            await self._blocks_at(gateway, msp_id, heights[A])
            for gateway, msp_id in zip(gateways, MSP_IDS, strict=True)
        ]
        assert [block.raw for block in found[0]] == [block.raw for block in found[1]], "the hospitals' blocks differ"
        if found[0]:
            self._checked = found[0][-1].checkpoint
        return found[0]

    async def _blocks_at(self, gateway: Gateway, msp_id: str, height: int) -> list[Block]:
        if self._checked is not None and self._checked.block_number == height - 1:
            return []
        assert self._checked is None or self._checked.block_number < height, "a block that was served is gone"
        start, signer = self._checked or 0, self._identities[msp_id]
        kind: FullKind = "private" if msp_id == A else "full"
        return [block async for block in deliver(gateway, signer, "care", start=start, stop=height - 1, kind=kind)]

    def _check_told(self, blocks: list[Block], told: Told) -> set[str]:
        """The keys that the valid transactions wrote."""
        changed: set[str] = set()
        ledger: dict[str, tuple[int, int]] = {}
        for block in blocks:
            for transaction in block.transactions:
                assert transaction.transaction_id not in ledger, "a transaction stands twice in the chain"
                ledger[transaction.transaction_id] = (block.number, transaction.validation_code)
                if transaction.is_valid and transaction.chaincode == self._devnet.chaincode:
                    self._state.update((write.key, write.value) for write in transaction.writes)
                    self._private.update((write.key, write.value or b"") for write in transaction.private_writes)
                    changed.update(write.key for write in transaction.writes)
                    assert not transaction.missing_private_writes, "private data of an acknowledged transaction is lost"
        assert told.submitted <= ledger.keys(), "an acknowledged transaction is lost"
        assert {name: ledger[name] for name in told.committed} == told.committed, "a verdict has changed"
        self.summary.blocks += len(blocks)
        self.summary.transactions += len(ledger)
        self.summary.invalid += sum(code != VALID for _, code in ledger.values())
        return changed

    async def _check_state(self, gateways: list[Gateway], keys: set[str]) -> None:
        """Those keys, in both hospitals' state, in private data too; then devnet still commits."""
        for gateway, msp_id in zip(gateways, MSP_IDS, strict=True):
            client = Client(gateway, self._identities[msp_id])
            names = sorted(keys)
            for start in range(0, len(names), 500):
                some = names[start : start + 500]
                expected = [self._state[key].decode() for key in some]
                assert await client.json("get_many", *some, targets=[msp_id]) == expected, "state and chain differ"
        client = Client(gateways[0], self._identities[A])
        for key in sorted(keys & self._private.keys())[-5:]:
            assert await client.evaluate("get_private", COLLECTION, key, targets=[A]) == self._private[key].decode()
        await client.submit("put", "after-the-crash", "v")


async def _end(working: list[asyncio.Task[None]]) -> None:
    """Answers that were on their way when devnet died still count; waiting for a devnet that is gone does not."""
    await asyncio.wait(working, timeout=0.1)
    for task in working:
        task.cancel()
    for outcome in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
