"""Random histories of reads, ranges and writes, judged by devnet and by a plain model: same codes, same state."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hlf_devnet.simulator import Simulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.devnet import MSP_IDS
from support.devnet_channel import CHAINCODE, Channel, Envelope

KEYS = 70
Version = tuple[int, int]


@dataclass(frozen=True)
class Range:
    """From key `start` to before `end`; with `limit` only that many results are fetched."""

    start: int
    end: int
    limit: int | None


@dataclass(frozen=True)
class Plan:
    """What a transaction does, and how many blocks pass between its endorsement and its block."""

    delay: int
    reads: tuple[int, ...]
    ranges: tuple[Range, ...]
    writes: tuple[tuple[int, bool], ...]
    """(key, whether it is deleted)."""


@dataclass
class Model:
    """What stands at each key, and since which transaction. `touched`: what valid transactions of the current block
    wrote, be it a delete of nothing: Fabric counts such a key as changed until the block ends."""

    versions: dict[int, Version] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    def found(self, query: Range) -> list[tuple[int, Version]]:
        keys = sorted(key for key in self.versions if query.start <= key < query.end)
        return [(key, self.versions[key]) for key in keys[: query.limit]]

    def observed(self, plan: Plan) -> "Observed":
        reads = {key: self.versions.get(key) for key in plan.reads}
        return Observed(plan, reads, [(query, self._fetched(query)) for query in plan.ranges], new_value())

    def _fetched(self, query: Range) -> tuple[list[tuple[int, Version]], int]:
        """Results, and where the part of the range ends that was seen: a query that stopped early saw no further than
        its last result."""
        found = self.found(query)
        stopped = query.limit is not None and len(found) == query.limit
        return found, found[-1][0] + 1 if stopped else query.end

    def judge(self, observed: "Observed", version: Version) -> str:
        if any(key in self.touched or self.versions.get(key) != seen for key, seen in observed.reads.items()):
            return "MVCC_READ_CONFLICT"
        for query, (seen, end) in observed.ranges:
            if self.found(Range(query.start, end, None)) != seen:
                return "PHANTOM_READ_CONFLICT"
        for key, is_delete in observed.plan.writes:
            self.touched.add(key)
            if is_delete:
                self.versions.pop(key, None)
                self.values.pop(key, None)
            else:
                self.versions[key] = version
                self.values[key] = observed.value
        return "VALID"


@dataclass(frozen=True)
class Observed:
    plan: Plan
    reads: dict[int, Version | None]
    ranges: list[tuple[Range, tuple[list[tuple[int, Version]], int]]]
    value: bytes


keys = st.integers(0, KEYS - 1)
ranges = st.builds(
    lambda start, length, limit: Range(start, min(start + length, KEYS), limit),
    keys,
    st.integers(1, KEYS),
    st.none() | st.integers(1, KEYS),
)
plans = st.builds(
    Plan,
    delay=st.sampled_from([0, 0, 0, 1, 2]),
    reads=st.lists(keys, max_size=3, unique=True).map(tuple),
    ranges=st.lists(ranges, max_size=2).map(tuple),
    writes=st.lists(st.tuples(keys, st.booleans()), max_size=3, unique_by=lambda write: write[0]).map(tuple),
)
histories = st.lists(st.lists(plans, max_size=4), min_size=1, max_size=4)
examples = itertools.count()
numbers = itertools.count()


def new_value() -> bytes:
    """Of all keys that one transaction writes; no two transactions write the same."""
    return f"by transaction {next(numbers)}".encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channel]:
    channel = Channel.create(tmp_path_factory.mktemp("model"))
    yield channel
    channel.close()


class Story:
    """One example: keys of its own in a channel that all examples share."""

    def __init__(self, channel: Channel, is_full: bool) -> None:
        self.channel = channel
        self.model = Model()
        self.prefix = f"{next(examples):06}/"
        if is_full:
            self.run_block([self.endorsed(Plan(0, (), (), tuple((key, False) for key in range(0, KEYS, 1))))])

    def endorsed(self, plan: Plan) -> tuple[Observed, Envelope]:
        observed = self.model.observed(plan)
        return observed, self.channel.endorse(lambda simulator: self.simulate(simulator, plan, observed.value))

    def simulate(self, simulator: Simulator, plan: Plan, value: bytes) -> None:
        for key in plan.reads:
            simulator.get_state(CHAINCODE, self.key(key))
        for query in plan.ranges:
            rows = simulator.range(CHAINCODE, self.key(query.start), self.key(query.end))
            fetched = itertools.count(1)
            while rows.next() is not None and next(fetched) != query.limit:
                pass
        for key, is_delete in plan.writes:
            simulator.put_state(CHAINCODE, self.key(key), b"" if is_delete else value)

    def run_block(self, transactions: list[tuple[Observed, Envelope]]) -> None:
        number = self.channel.a.height
        self.model.touched = set()
        expected = [self.model.judge(observed, (number, index)) for index, (observed, _) in enumerate(transactions)]
        assert self.channel.commit(*(envelope for _, envelope in transactions)) == expected

    def state(self, msp_id: str) -> dict[int, tuple[Version, bytes]]:
        with self.channel.ledgers[msp_id].snapshot() as snapshot:
            rows = snapshot.range(CHAINCODE, self.prefix, self.prefix + "~")
            return {int(key.removeprefix(self.prefix)): ((*found.version,), found.value or b"") for key, found in rows}

    def key(self, number: int) -> str:
        return f"{self.prefix}{number:03}"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(is_full=st.booleans(), history=histories)
def test_codes_and_state_are_those_of_a_plain_model(shared: Channel, is_full: bool, history: list[list[Plan]]) -> None:
    story = Story(shared, is_full)
    waiting: list[list[tuple[Observed, Envelope]]] = [[] for _ in range(len(history) + 3)]
    for number, plans_of_round in enumerate(history):
        for plan in plans_of_round:
            waiting[number + plan.delay].append(story.endorsed(plan))
        story.run_block(waiting[number])
    for late in waiting[len(history) :]:
        story.run_block(late)
    expected = {key: (version, story.model.values[key]) for key, version in story.model.versions.items()}
    assert [story.state(msp_id) for msp_id in MSP_IDS] == [expected, expected]
