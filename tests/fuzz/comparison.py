"""The fuzzer on two networks at once: what official peers refuse and devnet accepts is a difference.

Each recipe is made anew for each network, with that network's certificates, and asked again before a difference counts.
Some messages end an official peer; that is no acceptance either.
"""

import random
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from fuzz.asking import ENDED, Ask, client_answer, insistent, is_refused
from fuzz.chaincode import CHAINCODE_KINDS, FuzzedChaincode
from fuzz.fuzzer import random_chaincode_recipe, random_recipe
from fuzz.layout import Inapplicable
from fuzz.messages import KINDS, Bench
from fuzz.recipes import Recipe
from fuzz.wire import Malformed
from hlf.errors import HlfError
from support.fabric import Fabric

PANIC = re.compile(r"^panic: (.*)\n[\s\S]*?^github\.com/hyperledger/fabric/([^\n(]*\)?[^\n(]*)", re.MULTILINE)


@dataclass
class Comparison:
    """`more_lenient`: where devnet accepts what is refused; `stricter`: the opposite, which harms nobody; `fatal`:
    what ended an official process, and where in Fabric that happened."""

    chance: random.Random
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    more_lenient: list[str] = field(default_factory=list)
    stricter: list[str] = field(default_factory=list)
    fatal: list[str] = field(default_factory=list)

    async def run(self, devnet: Bench, official: Bench, end: float) -> None:
        """Messages of clients, until `end` of the monotonic clock or until an official process has ended."""

        async def ask(recipe: Recipe) -> str:
            return await client_answer(devnet, recipe)

        async def ask_official(recipe: Recipe) -> str:
            answer = await client_answer(official, recipe)
            return ENDED if ended_processes(official) else answer

        while time.monotonic() < end and not ended_processes(official):
            recipe = await random_recipe(self.chance, devnet, self.chance.choice(sorted(KINDS)))
            with suppress(Inapplicable, Malformed):
                await self._compare(recipe, ask, ask_official, official)

    async def run_chaincode(
        self, devnet: tuple[Bench, FuzzedChaincode], official: tuple[Bench, FuzzedChaincode], end: float
    ) -> None:
        """Messages of a chaincode."""

        async def ask(recipe: Recipe) -> str:
            return await devnet[1].answer_to(devnet[0], recipe)

        async def ask_official(recipe: Recipe) -> str:
            return await official[1].answer_to(official[0], recipe)

        while time.monotonic() < end and not ended_processes(official[0]):
            recipe = random_chaincode_recipe(self.chance, self.chance.choice(sorted(CHAINCODE_KINDS)))
            with suppress(Inapplicable, Malformed):
                await self._compare(recipe, ask, ask_official, official[0])

    async def _compare(self, recipe: Recipe, ask: Ask, ask_official: Ask, official: Bench) -> None:
        answer = await ask(recipe)
        told = await self._told_by(official, ask_official, recipe, answer)
        if is_refused(recipe, told) != is_refused(recipe, answer):
            answer = await ask(recipe)
        self.answers[recipe.kind, answer, told] += 1
        line = recipe.line(devnet=answer, official=told)
        if is_refused(recipe, told) and not is_refused(recipe, answer):
            self.more_lenient.append(line)
        elif is_refused(recipe, answer) and not is_refused(recipe, told):
            self.stricter.append(line)
        if told == ENDED:
            self.fatal.append(f"{' '.join(map(panic_of, ended_processes(official)))}: {line}")

    async def _told_by(self, official: Bench, ask: Ask, recipe: Recipe, devnet: str) -> str:
        def is_settled(answer: str) -> bool:
            return answer == ENDED or is_refused(recipe, answer) == is_refused(recipe, devnet)

        try:
            return await insistent(official, ask, recipe, is_settled)
        except HlfError:
            if ended_processes(official):
                return ENDED
            raise


def ended_processes(bench: Bench) -> list[str]:
    """What each of them has logged."""
    network = bench.network
    assert isinstance(network, Fabric)
    names = [name for name, process in network.processes.items() if process.returncode is not None]
    return [(network.folder / f"{name}.log").read_text(errors="replace") for name in names]


def panic_of(log: str) -> str:
    found = PANIC.search(log)
    return f"{found[1]} in {found[2]}" if found else log[-200:]
