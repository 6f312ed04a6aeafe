"""What a transaction may do, what it sees, and what is written down of it."""

from collections.abc import Callable, Iterator

import pytest
from fabric_protos.ledger.rwset import rwset_pb2
from hlf_devnet import lifecycle, rwset
from hlf_devnet.simulator import RangeIterator, SimulationError, Simulator
from support.devnet_channel import CHAINCODE, Channel

OF_A = "_implicit_org_HospitalA"


@pytest.fixture
def simulator(channel: Channel) -> Iterator[Simulator]:
    channel.commit(*(channel.put(f"k{number}", b"%d" % number) for number in range(5)))
    simulator = Simulator(channel.a, "tx")
    simulator.enter(CHAINCODE)
    yield simulator
    simulator.close()


def part(simulator: Simulator, namespace: str = CHAINCODE) -> rwset.NamespaceRwset:
    parts = {found.namespace: found for found in rwset.parse(simulator.finish().public)}
    return parts.get(namespace, rwset.NamespaceRwset(namespace, rwset.EMPTY, ()))


def test_a_read_does_not_see_the_writes_of_its_own_transaction(simulator: Simulator) -> None:
    simulator.put_state(CHAINCODE, "k1", b"new")
    assert simulator.get_state(CHAINCODE, "k1") == b"1"
    simulator.delete_state(CHAINCODE, "k1")
    assert simulator.get_state(CHAINCODE, "k1") == b"1"


def test_the_last_write_of_a_key_counts(simulator: Simulator) -> None:
    simulator.put_state(CHAINCODE, "k", b"first")
    simulator.put_state(CHAINCODE, "k", b"last")
    (write,) = part(simulator).public.writes
    assert (write.value, write.is_delete) == (b"last", False)


def test_an_empty_value_is_a_delete(simulator: Simulator) -> None:
    simulator.put_state(CHAINCODE, "k", b"")
    (write,) = part(simulator).public.writes
    assert write.is_delete


def test_reads_are_recorded_with_their_versions_and_absent_keys_without(simulator: Simulator) -> None:
    simulator.get_state(CHAINCODE, "nothing")
    simulator.get_state(CHAINCODE, "k3")
    found = [(read.key, rwset.read_version(read)) for read in part(simulator).public.reads]
    assert found == [("k3", (2, 3)), ("nothing", None)]


def test_everything_is_ordered_by_name_and_plain_key(simulator: Simulator) -> None:
    for key in ("b", "a"):
        simulator.put_private(CHAINCODE, "_implicit_org_HospitalB", key, b"x")
        simulator.put_private(CHAINCODE, OF_A, key, b"x")
        simulator.put_state(CHAINCODE, key, b"x")
    result = simulator.finish()
    found = next(part for part in rwset.parse(result.public) if part.namespace == CHAINCODE)
    assert [write.key for write in found.public.writes] == ["a", "b"]
    assert [each.collection for each in found.collections] == [OF_A, "_implicit_org_HospitalB"]
    hashes = [write.key_hash for write in found.collections[0].hashed.hashed_writes]
    assert hashes == [rwset.key_hash("a"), rwset.key_hash("b")]
    assert result.private_collections == ((CHAINCODE, OF_A), (CHAINCODE, "_implicit_org_HospitalB"))


def test_the_definition_of_the_chaincode_is_read(simulator: Simulator) -> None:
    found = [read.key for read in part(simulator, lifecycle.NAMESPACE).public.reads]
    assert found == [lifecycle.sequence_key(CHAINCODE)]


def test_called_chaincode_writes_into_its_own_namespace(simulator: Simulator) -> None:
    simulator.enter("other")
    simulator.put_state("other", "k", b"v")
    simulator.put_state(CHAINCODE, "k", b"w")
    message = rwset_pb2.TxReadWriteSet.FromString(simulator.finish().public)
    assert [part.namespace for part in message.ns_rwset] == ["_lifecycle", CHAINCODE, "other"]


def fetched(rows: RangeIterator, count: int) -> list[str]:
    return [row.key for row in (rows.next() for _ in range(count)) if row is not None]


@pytest.mark.parametrize(
    ("count", "end", "exhausted"), [(0, "", False), (1, "k1", False), (3, "k3", False), (4, "k4", True)]
)
def test_a_range_records_how_far_it_was_read(simulator: Simulator, count: int, end: str, exhausted: bool) -> None:
    rows = simulator.range(CHAINCODE, "k1", "k4")
    keys = fetched(rows, count)
    (info,) = part(simulator).public.range_queries_info
    assert (info.start_key, info.end_key, info.itr_exhausted) == ("k1", end, exhausted)
    assert [read.key for read in info.raw_reads.kv_reads] == keys == ["k1", "k2", "k3"][:count]


def test_equal_ranges_are_recorded_once(simulator: Simulator) -> None:
    for _ in range(2):
        fetched(simulator.range(CHAINCODE, "k1", "k4"), 9)
    assert len(part(simulator).public.range_queries_info) == 1


def test_pages_follow_each_other_by_their_bookmarks(simulator: Simulator) -> None:
    bookmark, pages = "", []
    for _ in range(4):
        rows = simulator.page(CHAINCODE, "k0", "", 2, bookmark)
        pages.append(fetched(rows, 3))
        bookmark = rows.bookmark()
        if not bookmark:
            break
    assert pages == [["k0", "k1"], ["k2", "k3"], ["k4"]]


WRITES: list[Callable[[Simulator], None]] = [
    lambda simulator: simulator.put_state(CHAINCODE, "k", b"v"),
    lambda simulator: simulator.delete_state(CHAINCODE, "k"),
    lambda simulator: simulator.put_state_metadata(CHAINCODE, "k", {"a": b"b"}),
    lambda simulator: simulator.put_private(CHAINCODE, OF_A, "k", b"v"),
    lambda simulator: simulator.delete_private(CHAINCODE, OF_A, "k"),
    lambda simulator: simulator.purge_private(CHAINCODE, OF_A, "k"),
    lambda simulator: simulator.put_private_metadata(CHAINCODE, OF_A, "k", {"a": b"b"}),
]


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_after_a_page(simulator: Simulator, write: Callable[[Simulator], None]) -> None:
    simulator.page(CHAINCODE, "", "", 1)
    with pytest.raises(SimulationError, match=r"already performed a paginated query\. Writes are not allowed"):
        write(simulator)


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_after_a_private_range(simulator: Simulator, write: Callable[[Simulator], None]) -> None:
    simulator.private_range(CHAINCODE, OF_A, "", "")
    with pytest.raises(SimulationError, match=r"already performed queries on pvt data\. Writes are not allowed"):
        write(simulator)


@pytest.mark.parametrize("write", WRITES)
def test_no_page_and_no_private_range_after_a_write(simulator: Simulator, write: Callable[[Simulator], None]) -> None:
    write(simulator)
    with pytest.raises(SimulationError, match="Paginated queries are supported only in a read-only transaction"):
        simulator.page(CHAINCODE, "", "", 1)
    with pytest.raises(SimulationError, match="Queries on pvt data is supported only in a read-only transaction"):
        simulator.private_range(CHAINCODE, OF_A, "", "")
    fetched(simulator.range(CHAINCODE, "", ""), 1)


def test_a_finished_transaction_does_nothing_more(simulator: Simulator) -> None:
    simulator.finish()
    for use in (
        lambda: simulator.get_state(CHAINCODE, "k"),
        lambda: simulator.put_state(CHAINCODE, "k", b"v"),
        lambda: simulator.range(CHAINCODE, "", ""),
        simulator.finish,
    ):
        with pytest.raises(SimulationError, match="should not be used after calling Done"):
            use()


def test_metadata_is_read_back_after_it_was_committed(channel: Channel) -> None:
    def write(simulator: Simulator) -> None:
        simulator.put_state(CHAINCODE, "k", b"v")
        simulator.put_state_metadata(CHAINCODE, "k", {"b": b"2", "a": b"1"})
        simulator.put_private(CHAINCODE, OF_A, "p", b"v")
        simulator.put_private_metadata(CHAINCODE, OF_A, "p", {"c": b"3"})

    channel.commit(channel.endorse(write))
    simulator = Simulator(channel.a, "tx")
    assert simulator.get_state_metadata(CHAINCODE, "k") == {"a": b"1", "b": b"2"}
    assert simulator.get_private_metadata(CHAINCODE, OF_A, "p") == {"c": b"3"}
    assert simulator.get_state_metadata(CHAINCODE, "nothing") == {}
    simulator.close()


def test_an_abandoned_range_may_be_closed_and_its_transaction_too(channel: Channel) -> None:
    channel.commit(*(channel.put(f"k{number}") for number in range(3)))
    simulator = Simulator(channel.a, "tx")
    rows = simulator.range(CHAINCODE, "", "")
    assert rows.next() is not None
    rows.close()
    assert rows.next() is None
    simulator.range(CHAINCODE, "", "").next()
    simulator.close()
    simulator.close()
    assert channel.commit(channel.put("later")) == ["VALID"]
