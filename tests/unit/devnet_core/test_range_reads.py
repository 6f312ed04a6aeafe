"""The summary of a long range, against a plain recursive reading of Fabric's rule."""

import hashlib

import pytest
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from hlf_devnet.range_reads import RangeReads, kv_read
from hlf_devnet.state import Version
from hypothesis import given
from hypothesis import strategies as st


def leaves(count: int, degree: int) -> list[bytes]:
    """Groups of degree + 1 reads."""
    reads = [kv_read(f"k{index}", Version(index, 0)) for index in range(count)]
    groups = [reads[start : start + degree + 1] for start in range(0, count, degree + 1)]
    return [hashlib.sha256(kv_rwset_pb2.QueryReads(kv_reads=group).SerializeToString()).digest() for group in groups]


def expected(count: int, degree: int) -> tuple[int, list[bytes]]:
    """The highest level of the tree. A level becomes the next one when it holds more than `degree` hashes; what is left
    below the highest level at the end is combined upwards, a single hash going up as it is."""
    level, hashes = 1, leaves(count, degree)
    while len(hashes) > degree:
        groups = [hashes[start : start + degree + 1] for start in range(0, len(hashes), degree + 1)]
        hashes = [group[0] if len(group) == 1 else hashlib.sha256(b"".join(group)).digest() for group in groups]
        level += 1
    return level, hashes


def reads_of(count: int, degree: int) -> RangeReads:
    reads = RangeReads(degree)
    for index in range(count):
        reads.add(f"k{index}", Version(index, 0))
    return reads


@given(st.integers(0, 400), st.integers(2, 7))
def test_a_summary_holds_the_highest_level_of_the_tree(count: int, degree: int) -> None:
    reads = reads_of(count, degree)
    if count <= degree:
        assert len(reads.raw() or []) == count
        return
    assert reads.raw() is None
    summary = reads.summary()
    assert summary.max_degree == degree
    assert (summary.max_level, list(summary.max_level_hashes)) == expected(count, degree)


@pytest.mark.parametrize(("count", "is_raw"), [(0, True), (50, True), (51, False), (52, False)])
def test_more_than_fifty_results_are_summarized(count: int, is_raw: bool) -> None:
    info = kv_rwset_pb2.RangeQueryInfo()
    reads_of(count, 50).describe(info)
    kind = info.WhichOneof("reads_info")
    assert kind == (("raw_reads" if count else None) if is_raw else "reads_merkle_hashes")


@given(st.integers(3, 100), st.integers(0, 99))
def test_one_changed_version_changes_the_summary(count: int, index: int) -> None:
    changed = RangeReads(2)
    for number in range(count):
        changed.add(f"k{number}", Version(number, int(number == index % count)))
    assert changed.summary() != reads_of(count, 2).summary()
