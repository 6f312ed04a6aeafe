"""Rows by the hundred in one statement: Postgres gets an array a column, so the work a statement is the same for any
number of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR, Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from emr_indexer.projector.changes import Row


async def put(
    connection: AsyncConnection, table: sa.Table, rows: Collection[Row], *, keep: frozenset[str] = frozenset()
) -> None:
    """Inserts rows or replaces them by primary key, except for the columns in ``keep``, which rows do not have."""
    if rows:
        await connection.execute(_upsert(table, keep), _arrays(_columns(table, keep), rows))


async def update(connection: AsyncConnection, table: sa.Table, columns: frozenset[str], rows: Collection[Row]) -> None:
    """Sets these columns of the rows that are there, by a primary key of one column."""
    if rows:
        names = [column.name for column in table.c if column.primary_key or column.name in columns]
        await connection.execute(_update(table, columns), _arrays([table.c[name] for name in names], rows))


@cache
def _upsert(table: sa.Table, keep: frozenset[str]) -> Insert:
    columns = _columns(table, keep)
    given = _given(columns)
    values = sa.select(*(_value(column, given) for column in columns))
    statement = insert(table).from_select([column.name for column in columns], values, include_defaults=False)
    replaced = {column.name: statement.excluded[column.name] for column in columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=replaced)


@cache
def _update(table: sa.Table, columns: frozenset[str]) -> sa.Update:
    (key,) = table.primary_key
    given = _given([key, *(column for column in table.c if column.name in columns)])
    values = {name: _value(table.c[name], given) for name in columns}
    return sa.update(table).where(key == given.c[key.name]).values(values)


def any_of(values: Collection[str]) -> sa.ColumnElement[Any]:
    """To compare a column with: one parameter, and so one statement, for any number of values."""
    return sa.any_(sa.bindparam("any_of", sorted(values), type_=ARRAY(sa.Text()), unique=True))


def rows_of_text(name: str, values: Collection[str]) -> sa.TableValuedAlias:
    """Texts as rows of one column."""
    given = sa.bindparam("rows_of_text", sorted(values), type_=ARRAY(sa.Text()), unique=True)
    return sa.func.unnest(given).table_valued(sa.column(name, sa.Text()), name="given").render_derived()


def _columns(table: sa.Table, keep: frozenset[str]) -> list[sa.Column[Any]]:
    return [column for column in table.c if column.name not in keep]


def _given(columns: Sequence[sa.Column[Any]]) -> sa.TableValuedAlias:
    arrays = [sa.bindparam(f"all_{column.name}", type_=ARRAY(_wire_type(column))) for column in columns]
    names = [sa.column(column.name, _wire_type(column)) for column in columns]
    return sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()


def _arrays(columns: Sequence[sa.Column[Any]], rows: Collection[Row]) -> dict[str, list[Any]]:
    return {f"all_{column.name}": [row[column.name] for row in rows] for column in columns}


def _wire_type(column: sa.Column[Any]) -> Any:
    """JSON and words go to Postgres as text: content with its decimals as written."""
    return sa.Text() if isinstance(column.type, JSONB | TSVECTOR) else column.type


def _value(column: sa.Column[Any], given: sa.TableValuedAlias) -> sa.ColumnElement[Any]:
    value = given.c[column.name]
    if isinstance(column.type, TSVECTOR):
        return sa.func.to_tsvector("simple", value)
    return sa.cast(value, JSONB) if isinstance(column.type, JSONB) else value
