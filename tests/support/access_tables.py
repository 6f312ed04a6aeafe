"""The tables of ``docs/security.md`` that say who may do what: what people read there is what the tests hold the system
to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emr_model.ledger.codes import Code

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ANSWERED, ROLE, BY_STATE = "✓", "–", "*state*"

Table = dict[str, dict[str, str]]


@dataclass(frozen=True)
class AccessTables:
    """``by_person``: rows by operation, cells by person; ``by_state``: rows by operation, cells by state."""

    by_person: Table
    by_state: Table

    @classmethod
    def under(cls, heading: str) -> AccessTables:
        """The two tables that follow the heading."""
        by_person, by_state = _tables(PAGE.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1])[:2]
        return cls(by_person, by_state)

    @property
    def people(self) -> list[str]:
        return list(next(iter(self.by_person.values())))

    @property
    def states(self) -> list[str]:
        return list(next(iter(self.by_state.values())))

    def expected(self, operation: str, person: str, state: str) -> str:
        """``ANSWERED``, or the name of a code."""
        cell = self.by_person[operation][person]
        if cell == BY_STATE:
            cell = self.by_state[operation][state]
        return Code.ROLE_NOT_ALLOWED.name if cell == ROLE else cell

    def rows_without_use(self) -> set[str]:
        """Of the second table, those to which no cell of the first points."""
        used = {name for name, cells in self.by_person.items() if BY_STATE in cells.values()}
        return self.by_state.keys() ^ used


def _tables(text: str) -> list[Table]:
    blocks = [block.strip().splitlines() for block in text.split("\n\n") if block.lstrip().startswith("|")]
    return [_table(block) for block in blocks]


def _table(lines: list[str]) -> Table:
    (_, *columns), _, *rows = map(_cells, lines)
    return {name.strip("`"): dict(zip(columns, cells, strict=True)) for name, *cells in rows}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
