"""The fuzzer's corpus again: messages changed in recorded ways. What official peers refuse, devnet refuses too; and a
transaction that comes into a block gets the same validation code.

The corpus holds what each of the two answered. `--record-answers` notes it anew: first on the official peers, if their
programs are there.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fabric_protos.peer.transaction_pb2 import TxValidationCode as Code
from fuzz import recordings
from fuzz.asking import ENDED, Ask, client_answer, insistent, is_refused
from fuzz.chaincode import CHAINCODE_KINDS, fuzzed_chaincode
from fuzz.layout import Inapplicable
from fuzz.messages import KINDS, Bench, bench_on, new_key
from fuzz.recipes import Recipe
from support.fabric import Fabric
from support.networks import running_network
from support.transactions import Client

AT_ONCE = 8
PATIENCE = 2.5


@pytest.fixture(scope="module", params=["devnet", "fabric"])
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """On a network of its own: thousands of odd messages are no company for other cases."""
    folder = tmp_path_factory.mktemp(f"mutated-{request.param}")
    async with running_network(request.param, folder) as running, bench_on(running) as opened:
        opened.patience = PATIENCE
        yield opened


class Replay:
    """The answers of one network to recorded recipes."""

    def __init__(self, bench: Bench, ask: Ask, *, record: bool) -> None:
        self._bench = bench
        self._ask = ask
        self._record = record
        self._wrong: list[str] = []
        self._answers: dict[Recipe, str] = {}
        self._inapplicable: set[Recipe] = set()

    @property
    def _official(self) -> bool:
        return isinstance(self._bench.network, Fabric)

    async def recipe(self, recipe: Recipe, recorded: recordings.Answers) -> None:
        if self._official and recorded.get("official") == ENDED:
            return

        def is_settled(answer: str) -> bool:
            return self._is_settled(recipe, answer, recorded)

        try:
            answer = await insistent(self._bench, self._ask, recipe, is_settled)
        except Inapplicable:
            self._inapplicable.add(recipe)
            return
        self._answers[recipe] = answer
        if not self._record and not is_settled(answer):
            self._wrong.append(f"now {answer!r}: {recipe.line(**recorded)}")

    def _is_settled(self, recipe: Recipe, answer: str, recorded: recordings.Answers) -> bool:
        """An answer for the record that differs from devnet's is asked for again."""
        if self._record:
            return not self._official or is_refused(recipe, answer) == is_refused(recipe, recorded["devnet"])
        official = recorded["official"]
        if official in Code.keys():  # noqa: SIM118  an enum of protobuf's, no mapping
            return answer == official  # it stands in the block
        expected = is_refused(recipe, official)
        return is_refused(recipe, answer) == expected if self._official else is_refused(recipe, answer) or not expected

    def finish(self) -> None:
        if self._record:
            name = "official" if self._official else "devnet"
            recordings.write(
                (recipe, {**answers, name: self._answers[recipe]} if recipe in self._answers else answers)
                for recipe, answers in recordings.recorded()
                if recipe not in self._inapplicable
            )
        assert not self._wrong, "\n".join(self._wrong)


@pytest.fixture
def record(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--record-answers", default=False))


@pytest.mark.timeout(600)
async def test_changed_messages_of_clients_are_refused_where_fabric_refuses_them(bench: Bench, record: bool) -> None:
    replay = Replay(bench, lambda recipe: client_answer(bench, recipe), record=record)
    entries = iter([entry for entry in recordings.recorded() if entry[0].kind in KINDS])

    async def work() -> None:
        for recipe, recorded in entries:
            await replay.recipe(recipe, recorded)

    await asyncio.gather(*(work() for _ in range(1 if isinstance(bench.network, Fabric) else AT_ONCE)))
    await Client(bench.gateway, bench.caller).submit("put", new_key(), "v")
    replay.finish()


@pytest.mark.timeout(600)
async def test_changed_messages_of_a_chaincode_are_refused_where_fabric_refuses_them(
    bench: Bench, record: bool
) -> None:
    async with fuzzed_chaincode(bench.network) as fuzzed:
        replay = Replay(bench, lambda recipe: fuzzed.answer_to(bench, recipe), record=record)
        for recipe, recorded in recordings.recorded():
            if recipe.kind in CHAINCODE_KINDS:
                await replay.recipe(recipe, recorded)
    replay.finish()
