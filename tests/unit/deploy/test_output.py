"""What commands print for people."""

from __future__ import annotations

import pytest
from emr_deploy.output import Output


def test_a_table_in_a_narrow_terminal_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    Output(as_json=False).table([{"hospital": "HospitalA", "endpoint": "peer0.a.care.example:7051"}])
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert "".join(row[1] for row in cells if row) == "peer0.a.care.example:7051"


def test_a_table_shows_what_is_in_a_record_and_does_nothing_that_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(
        [{"[bold]": "[red]O'Brien[/] [/nope]", "b": "\x1b]0;taken\x07\u202e", "c": "Ünï 张\n2"}]
    )
    shown = capsys.readouterr().out
    for expected in ("[bold]", "[red]O'Brien[/] [/nope]", r"\x1b]0;taken\x07\u202e", "Ünï 张"):
        assert expected in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
