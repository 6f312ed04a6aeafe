"""How views for readers are declared: each column with its expression and its comment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    name: str
    expression: str
    comment: str


@dataclass(frozen=True)
class View:
    """A view of ``schema``. ``source`` is what follows FROM."""

    schema: str
    name: str
    comment: str
    columns: tuple[Column, ...]
    source: str

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def statements(self) -> Iterator[str]:
        """SQL that creates the view with its comments; it must not exist."""
        name = self.qualified_name
        selected = ", ".join(f"{column.expression} as {column.name}" for column in self.columns)
        yield " ".join(["create view", name, "with (security_barrier) as select", selected, "from", self.source])
        yield f"comment on view {name} is {_literal(self.comment)}"
        for column in self.columns:
            yield f"comment on column {name}.{column.name} is {_literal(column.comment)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def drop_statements(views: Iterable[View]) -> Iterator[str]:
    """For views in an order in which they can be created."""
    for view in reversed(tuple(views)):
        yield f"drop view if exists {view.qualified_name}"


def create_statements(views: Iterable[View]) -> Iterator[str]:
    for view in views:
        yield from view.statements()
