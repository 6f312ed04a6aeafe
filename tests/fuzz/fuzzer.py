"""A mutation fuzzer against a running devnet: no crash, bounded memory, everything refused or harmless.

What it looks at: after every message that devnet did not break inside, and that nothing was accepted which its caller
had not signed; after every batch that devnet lives, logs no failure of its own, commits, keeps both hospitals' blocks
the same, and has not grown.
"""

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

import psutil
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from fuzz.chaincode import CHAINCODE_KINDS, FuzzedChaincode
from fuzz.layout import Inapplicable, places
from fuzz.messages import ACCEPTED, KINDS, Bench, is_signed_by_caller, new_key, prepared
from fuzz.recipes import SIGN, Recipe, random_edit
from fuzz.wire import Malformed
from hlf.deliver import deliver
from support.devnet import MSP_IDS, Devnet
from support.transactions import Client

BATCH: Final = 80
AT_ONCE: Final = 8
LARGEST_GROWTH: Final = 96 * 1024 * 1024
"""Bytes that devnet may grow after the first batch: buffers of messages of megabytes, not the messages themselves."""
PATIENCE: Final = 25.0
"""With which a refusal is awaited that has to come."""
PER_KIND: Final = 40
"""Recipes of a kind in the corpus."""
FAILURES: Final = re.compile(r"failed inside the peer|devnet ends|Task exception was never retrieved")


@dataclass
class Fuzzer:
    """`found`: a recipe for each different (kind, place, answer), in the order of their discovery."""

    devnet: Devnet
    bench: Bench
    chance: random.Random
    found: dict[tuple[str, str, str], tuple[Recipe, str]] = field(default_factory=dict)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    checked_block: int = 0
    checked_log: int = 0
    first_size: int | None = None
    first_messages: int = 0
    largest_growth: int = 0

    @property
    def messages(self) -> int:
        return self.answers.total()

    async def run(self, seconds: float) -> None:
        """Messages of clients; a finding is an AssertionError that tells the recipe."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(BATCH // AT_ONCE):
                await asyncio.gather(*(self._client_message() for _ in range(AT_ONCE)))
            await self.check_network()

    async def run_chaincode(self, fuzzed: FuzzedChaincode, seconds: float) -> None:
        """Messages of a chaincode, one after the other."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            recipe = random_chaincode_recipe(self.chance, self.chance.choice(sorted(CHAINCODE_KINDS)))
            try:
                answer = await fuzzed.answer_to(self.bench, recipe)
            except Inapplicable:
                continue
            self._note(recipe, answer)
        self._check_process()

    async def check_network(self) -> None:
        self._check_process()
        client = Client(self.bench.gateway, self.bench.caller)
        newest = (await client.submit("put", new_key(), "v")).block_number
        blocks = []
        for msp_id in MSP_IDS:
            async with self.devnet.gateway(msp_id) as gateway:
                stream = deliver(gateway, self.devnet.member(msp_id), "care", start=self.checked_block, stop=newest)
                blocks.append([block.raw async for block in stream])
        assert blocks[0] == blocks[1], "the hospitals' blocks differ"
        self.checked_block = newest

    def _check_process(self) -> None:
        process = self.devnet.process
        assert process is not None and process.returncode is None, "devnet has ended"
        log = self.devnet.log.read_text()
        failures = FAILURES.findall(log[self.checked_log :])
        assert not failures, f"{failures}: {log[self.checked_log :][-3000:]}"
        self.checked_log = len(log)
        size = psutil.Process(process.pid).memory_info().rss
        if self.first_size is None:
            self.first_size, self.first_messages = size, self.messages
        self.largest_growth = max(self.largest_growth, size - self.first_size)
        assert self.largest_growth < LARGEST_GROWTH, f"devnet has grown to {size >> 20} MiB"

    async def _client_message(self) -> None:
        name = self.chance.choice(sorted(KINDS))
        kind = KINDS[name]
        recipe = await random_recipe(self.chance, self.bench, name)
        try:
            valid, encoded = await prepared(self.bench, kind, recipe)
        except (Inapplicable, Malformed):
            return
        answer = await kind.send(self.bench, encoded)
        signed = recipe.sign != "nobody" or is_signed_by_caller(kind, valid, encoded)
        if answer == "waits" and not signed:
            answer = await kind.send(replace(self.bench, patience=PATIENCE), encoded)
        assert signed or answer not in ACCEPTED, f"accepted without a signature: {recipe.line(devnet=answer)}"
        self._note(recipe, answer)

    def _note(self, recipe: Recipe, answer: str) -> None:
        assert not answer.startswith("broken"), recipe.line(devnet=answer)
        assert answer != "never in a block", recipe.line(devnet=answer)
        self.answers[recipe.kind, answer] += 1
        if len(recipe.edits) == 1:
            self.found.setdefault((recipe.kind, recipe.edits[0][0], answer), (recipe, answer))

    def corpus(self) -> list[tuple[Recipe, dict[str, str]]]:
        """At most PER_KIND of a kind, all of its answers among them."""
        kept: list[tuple[Recipe, dict[str, str]]] = []
        for kind in {kind for kind, _, _ in self.found}:
            entries = [entry for key, entry in self.found.items() if key[0] == kind]
            firsts = {answer: (recipe, answer) for recipe, answer in reversed(entries)}
            others = [entry for entry in entries if firsts[entry[1]] is not entry and entry not in firsts.values()]
            chosen = [*firsts.values(), *others][:PER_KIND]
            kept += [(recipe, {"devnet": answer}) for recipe, answer in chosen]
        return kept


async def random_recipe(chance: random.Random, bench: Bench, name: str) -> Recipe:
    """For a message of clients, of the kind `name`."""
    kind = KINDS[name]
    paths = ["", *places(kind.message, await kind.make(bench), kind.nested)]
    return _random_edits(chance, name, paths, chance.choice(SIGN if kind.is_transaction else SIGN[:2]))


def random_chaincode_recipe(chance: random.Random, name: str) -> Recipe:
    kind = CHAINCODE_KINDS[name]
    paths = ["", *places(ChaincodeMessage, kind.make("0" * 64), kind.nested)]
    return _random_edits(chance, name, paths, "nobody")


def _random_edits(chance: random.Random, name: str, paths: list[str], sign: str) -> Recipe:
    count = chance.choice((1, 1, 1, 2, 3))
    return Recipe(name, tuple(random_edit(chance, chance.choice(paths)) for _ in range(count)), sign)
