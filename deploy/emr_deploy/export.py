"""A reader's views as files: CSV for spreadsheets, Parquet for data frames. All files stand for one moment.

CSV: a text that a spreadsheet would run as a formula gets a ``'`` before it. Parquet keeps every text as it is.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from emr_readmodel.views import View

TIMEOUT_SECONDS = 600
NULL = "\\N"
FORMULA = "^[=+@\\t\\r-]"
DUCKDB_TYPES = {
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "integer": "INTEGER",
    "numeric": "DOUBLE",
    "text": "VARCHAR",
    "timestamp with time zone": "TIMESTAMP",
}
"""Times are in UTC."""

Columns = Sequence[tuple[str, str]]
"""Names and Postgres types, in their order."""


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    view: str
    path: Path
    rows: int


def export_views(url: str, views: Sequence[View], folder: Path, kind: Format) -> list[Exported]:
    """Writes a file for each view, readable by the caller's account alone. A file is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(export(url, views, folder, kind))


async def export(url: str, views: Sequence[View], folder: Path, kind: Format) -> list[Exported]:
    """The same for a folder that exists."""
    settings = {"statement_timeout": f"{TIMEOUT_SECONDS}s", "timezone": "UTC"}
    connection = await asyncpg.connect(url, timeout=10, server_settings=settings)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return [await _export(connection, view, folder, kind) for view in views]
    finally:
        await connection.close()


async def _export(connection: asyncpg.Connection[asyncpg.Record], view: View, folder: Path, kind: Format) -> Exported:
    columns = await _columns(connection, view)
    path = folder / f"{view.name}.{kind.value}"
    write = _to_parquet if kind is Format.PARQUET else _keep
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        text = Path(scratch) / "rows.csv"
        rows = await _copy(connection, view, columns, text, for_spreadsheets=kind is Format.CSV)
        done = Path(scratch) / path.name
        _private(partial(write, text, columns, done))
        done.replace(path)
    return Exported(view.name, path, rows)


async def _columns(connection: asyncpg.Connection[asyncpg.Record], view: View) -> Columns:
    query = """
        select attname, format_type(atttypid, null) from pg_attribute
        where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum
    """
    return [(row[0], row[1]) for row in await connection.fetch(query, view.qualified_name)]


async def _copy(
    connection: asyncpg.Connection[asyncpg.Record], view: View, columns: Columns, path: Path, *, for_spreadsheets: bool
) -> int:
    """The number of rows. They go through the client in pieces, never all at once."""
    selected = ", ".join(_harmless(name) if for_spreadsheets and kind == "text" else name for name, kind in columns)
    status = await connection.copy_from_query(
        f"select {selected} from {view.qualified_name}",  # noqa: S608 - names of this project's views
        output=path,
        format="csv",
        header=True,
        null="" if for_spreadsheets else NULL,
        timeout=TIMEOUT_SECONDS,
    )
    return int(status.removeprefix("COPY "))


def _harmless(name: str) -> str:
    return f"case when {name} ~ '{FORMULA}' then '''' || {name} else {name} end as {name}"


def _private(write: Callable[[], None]) -> None:
    before = os.umask(0o077)
    try:
        write()
    finally:
        os.umask(before)


def _keep(text: Path, columns: Columns, path: Path) -> None:
    del columns
    path.touch()
    with text.open("rb") as source, path.open("wb") as target:
        while piece := source.read(1 << 20):
            target.write(piece)


def _to_parquet(text: Path, columns: Columns, path: Path) -> None:
    import duckdb  # heavy, and for this alone

    kinds = ", ".join(f"'{name}': '{DUCKDB_TYPES[kind]}'" for name, kind in columns)
    read = (
        f"read_csv('{_quoted(text)}', header = true, nullstr = '{NULL}', columns = {{{kinds}}}, auto_detect = false, "
    )
    read += "delim = ',', quote = '\"', escape = '\"')"
    with duckdb.connect() as database:
        database.execute(f"copy (select * from {read}) to '{_quoted(path)}' (format parquet, compression zstd)")  # noqa: S608


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
