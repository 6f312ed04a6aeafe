"""How every command speaks: lines for people, or with `--json` one JSON document on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from emr_network.topology import Ledger
from rich.console import Console
from rich.table import Table
from rich.text import Text

OnLedger = Annotated[
    Ledger | None,
    typer.Option("--ledger", help="devnet or official Fabric; chosen the first time, devnet without it."),
]
NewTopology = Annotated[Path, typer.Option("--topology", help="The network to make, the first time.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


class Output:
    """What a command prints. With `as_json`, progress goes to standard error and the result to standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Progress."""
        print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def result(self, value: Any, *lines: str) -> None:
        """The outcome: `value` as JSON, or `lines`."""
        if self.as_json:
            print(json.dumps(value, indent=2, default=str), flush=True)
        else:
            for line in lines:
                print(line, flush=True)

    def rows(self, rows: Sequence[dict[str, Any]], title: str = "") -> None:
        """The outcome, a table whose columns are the keys of the first row."""
        if self.as_json:
            self.result(list(rows))
        else:
            self.table(rows, title)

    def table(self, rows: Sequence[dict[str, Any]], title: str = "") -> None:
        if not rows:
            self.say(f"{title}: none" if title else "none")
            return
        table = Table(title=title or None, title_justify="left", title_style="bold")
        for name in rows[0]:
            is_number = isinstance(rows[0][name], int)
            table.add_column(_shown(name), justify="right" if is_number else "left", overflow="fold")  # nothing is cut
        for row in rows:
            table.add_row(*("" if value is None else _shown(str(value)) for value in row.values()))
        self._console.print(table)


def _shown(text: str) -> Text:
    """As it stands: no mark-up, and nothing that a terminal would do instead of showing it, such as an escape."""
    return Text("".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text))
