"""``CODE: text`` is written and read by the same words; every function is known by one name."""

from __future__ import annotations

import pytest
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Kind
from emr_model.ledger.refusals import Refused, parse_refusal


@pytest.mark.parametrize("code", list(Code))
@pytest.mark.parametrize("version", [None, 0, 17])
def test_a_refusal_is_read_as_it_was_written(code: Code, version: int | None) -> None:
    refusal = parse_refusal(Refused(code, version=version).message)
    assert refusal is not None
    assert (refusal.code, refusal.version) == (code, version)


@pytest.mark.parametrize("message", ["", "EMR_NOT_FOUND", "NO_SUCH_CODE: x", "the chaincode failed: KeyError"])
def test_other_messages_are_no_refusals(message: str) -> None:
    assert parse_refusal(message) is None


def test_functions_are_found_by_the_name_on_the_wire() -> None:
    assert len({function.wire_name for function in Function}) == len(Function)
    assert all(Function.by_wire_name(function.wire_name) is function for function in Function)
    assert Function.by_wire_name("getsharedemr") is None


def test_only_submitted_functions_take_transient_data() -> None:
    assert all(function.spec.kind is Kind.SUBMIT for function in Function if function.spec.transient)
