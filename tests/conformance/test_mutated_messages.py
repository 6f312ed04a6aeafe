"""The fuzzer's corpus again: messages changed in recorded ways. What official peers refuse, devnet refuses too.

The corpus holds what each of the two answered. `--record-answers` notes it anew: first on the official peers, if their
programs are there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from emr_network.fabric.programs import ProgramsMissing
from fuzz import chaincode, messages, recordings
from fuzz.chaincode import CHAINCODE_KINDS, fuzzed_chaincode
from fuzz.layout import Inapplicable
from fuzz.messages import KINDS, Bench, bench_on, new_key, panics_official_peers, prepared
from fuzz.recipes import Recipe
from support.devnet import Network, running_devnet
from support.fabric import Fabric, running_fabric
from support.transactions import Client

AT_ONCE = 8
ATTEMPTS = 3
"""Certificates and signatures differ from message to message: a change can by chance be none."""
PATIENCE = 2.5

Ask = Callable[[Recipe], Awaitable[str]]


@pytest.fixture(scope="module", params=["devnet", "fabric"])
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """On a network of its own: thousands of odd messages are no company for other cases."""
    folder = tmp_path_factory.mktemp(f"mutated-{request.param}")
    network = running_devnet(folder) if request.param == "devnet" else running_fabric(folder)
    try:
        running: Network = await network.__aenter__()
    except ProgramsMissing as missing:
        pytest.skip(str(missing))
    try:
        async with bench_on(running) as opened:
            opened.patience = PATIENCE
            yield opened
    finally:
        await network.__aexit__(None, None, None)


def is_refused(recipe: Recipe, answer: str) -> bool:
    accepted = chaincode.ACCEPTED if recipe.kind in CHAINCODE_KINDS else messages.ACCEPTED
    return answer not in accepted


class Replay:
    """The answers of one network to the recipes of `kinds`."""

    def __init__(self, bench: Bench, ask: Ask, *, record: bool) -> None:
        self._official = isinstance(bench.network, Fabric)
        self._ask = ask
        self._record = record
        self.wrong: list[str] = []
        self.answers: dict[Recipe, str] = {}
        self.inapplicable: set[Recipe] = set()

    async def recipe(self, recipe: Recipe, recorded: recordings.Answers) -> None:
        for _ in range(ATTEMPTS):
            try:
                answer = await self._ask(recipe)
            except Inapplicable:
                continue
            self.answers[recipe] = answer
            if self._is_settled(recipe, answer, recorded):
                return
        if recipe not in self.answers:
            self.inapplicable.add(recipe)
        elif not self._record:
            self.wrong.append(f"now {self.answers[recipe]!r}: {recipe.line(**recorded)}")

    def _is_settled(self, recipe: Recipe, answer: str, recorded: recordings.Answers) -> bool:
        """An answer for the record that differs from devnet's is asked for again: a busy peer refuses much."""
        if self._record:
            return not self._official or is_refused(recipe, answer) == is_refused(recipe, recorded["devnet"])
        return self._fits(recipe, answer, recorded)

    def _fits(self, recipe: Recipe, answer: str, recorded: recordings.Answers) -> bool:
        if "official" not in recorded:
            return True
        expected = is_refused(recipe, recorded["official"])
        return is_refused(recipe, answer) == expected if self._official else is_refused(recipe, answer) or not expected

    def finish(self) -> None:
        if self._record:
            name = "official" if self._official else "devnet"
            recordings.write(
                (recipe, {**answers, name: self.answers[recipe]} if recipe in self.answers else answers)
                for recipe, answers in recordings.recorded()
                if recipe not in self.inapplicable
            )
        assert not self.wrong, "\n".join(self.wrong)


@pytest.mark.timeout(600)
async def test_changed_messages_of_clients_are_refused_where_fabric_refuses_them(
    bench: Bench, pytestconfig: pytest.Config
) -> None:
    if isinstance(bench.network, Fabric) and not pytestconfig.getoption("--record-answers", default=False):
        pytest.skip("some of these messages end a 3.1.5 peer: its answers to them are not settled")

    async def ask(recipe: Recipe) -> str:
        kind = KINDS[recipe.kind]
        valid, encoded = await prepared(bench, kind, recipe)
        if encoded == valid:
            raise Inapplicable("nothing has changed")
        if isinstance(bench.network, Fabric) and panics_official_peers(kind, encoded):
            return "peer panics"
        return await kind.send(bench, encoded)

    replay = Replay(bench, ask, record=pytestconfig.getoption("--record-answers", default=False))
    entries = iter([entry for entry in recordings.recorded() if entry[0].kind in KINDS])

    async def work() -> None:
        for recipe, recorded in entries:
            await replay.recipe(recipe, recorded)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    await Client(bench.gateway, bench.caller).submit("put", new_key(), "v")
    replay.finish()


@pytest.mark.timeout(600)
async def test_changed_messages_of_a_chaincode_are_refused_where_fabric_refuses_them(
    bench: Bench, pytestconfig: pytest.Config
) -> None:
    async with fuzzed_chaincode(bench.network) as fuzzed:
        replay = Replay(
            bench,
            lambda recipe: fuzzed.answer_to(bench, recipe),
            record=pytestconfig.getoption("--record-answers", default=False),
        )
        for recipe, recorded in recordings.recorded():
            if recipe.kind in CHAINCODE_KINDS:
                await replay.recipe(recipe, recorded)
    replay.finish()
