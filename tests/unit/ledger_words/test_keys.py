"""Keys sort as their numbers do, and read back."""

from __future__ import annotations

import pytest
from emr_model.ledger import keys
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.integers(0, keys.LARGEST_NUMBER)


@given(NUMBERS, NUMBERS)
def test_padded_numbers_sort_as_numbers(first: int, second: int) -> None:
    assert (keys.padded(first) < keys.padded(second)) == (first < second)


@given(NUMBERS)
def test_a_padded_number_reads_back(number: int) -> None:
    assert keys.number(keys.padded(number)) == number


@pytest.mark.parametrize("number", [-1, keys.LARGEST_NUMBER + 1])
def test_a_number_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="digits"):
        keys.padded(number)


@pytest.mark.parametrize("part", ["", "1", "00000000001", "-000000001", "000000000x", "٠٠٠٠٠٠٠٠٠٠", "0000000001\n"])
def test_what_was_not_padded_here_is_no_number(part: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        keys.number(part)


def test_notes_and_snapshots_stand_under_padded_numbers() -> None:
    assert keys.note("e", 7) == ("note", ("e", "0000000007"))
    assert keys.snapshot("e", 2, 7) == ("snapshot", ("e", "0000000002", "0000000007"))
    assert keys.demographics("e", 1) == ("demographics", ("e", "0000000001"))


def test_a_collection_names_its_organization() -> None:
    assert keys.implicit_collection("HospitalA") == "_implicit_org_HospitalA"
    assert keys.organization_of_collection("_implicit_org_HospitalA") == "HospitalA"


@pytest.mark.parametrize("collection", ["", "HospitalA", "_implicit_org_"])
def test_other_collections_are_nobodys(collection: str) -> None:
    with pytest.raises(ValueError, match="implicit"):
        keys.organization_of_collection(collection)
