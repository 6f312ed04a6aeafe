"""``docs/chaincode.md`` tells what the table of functions says."""

from __future__ import annotations

from pathlib import Path

import pytest
from emr_model.ledger.functions import Endorsers, Function, Kind

PAGE = (Path(__file__).parents[3] / "docs" / "chaincode.md").read_text(encoding="utf-8")
LAST_COLUMN = {Endorsers.ALL: "", Endorsers.OWNER: "owner alone", Endorsers.CALLER: "recipient alone"}


@pytest.mark.parametrize("function", list(Function), ids=lambda one: one.wire_name)
def test_every_function_stands_there_as_it_is(function: Function) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `") and f"`{function.wire_name}`" in line)
    *_, arguments, _, last, _ = (cell.strip() for cell in row.split("|"))
    spec = function.spec
    places = [arguments.find(name) for name in spec.arguments]
    assert places == sorted(places)
    assert -1 not in places
    assert spec.transient is None or f"transient `{spec.transient}`" in arguments
    assert last == ("evaluate" if spec.kind is Kind.EVALUATE else LAST_COLUMN[spec.endorsers])
