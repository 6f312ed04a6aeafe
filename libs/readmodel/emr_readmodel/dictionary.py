"""``docs/data-dictionary.md``, from the comments in a database: ``python -m emr_readmodel.dictionary URL_FILE``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from emr_readmodel import engine

SCHEMAS = ("published", "analytics", "care", "hospital")
"""In the order in which a reader is likely to need them."""

PREFACE = """# Data dictionary

Generated from the comments in the database: do not edit. Who may read which schema: [read-model.md](read-model.md).
`*` marks a column that is never null.
"""

_COLUMNS = sa.text(
    """
    select n.nspname as schema, obj_description(n.oid) as schema_comment, c.relname as relation,
        obj_description(c.oid) as relation_comment, a.attname as column, format_type(a.atttypid, a.atttypmod) as type,
        a.attnotnull as is_required, col_description(c.oid, a.attnum) as column_comment
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname = any(:schemas) and c.relkind in ('r', 'v')
    order by array_position(:schemas, n.nspname::text), c.relname, a.attnum
    """
).bindparams(sa.bindparam("schemas", list(SCHEMAS), sa.ARRAY(sa.Text)))


async def dictionary(connection: AsyncConnection) -> str:
    """The page: every schema, table and view with its columns, in their order."""
    found = [dict(row) for row in (await connection.execute(_COLUMNS)).mappings()]
    return PREFACE + "".join(_schema(name, list(rows)) for name, rows in groupby(found, key=lambda row: row["schema"]))


def _schema(name: str, rows: list[dict[str, Any]]) -> str:
    heading = f"\n## `{name}`: {rows[0]['schema_comment']}\n"
    return heading + "".join(
        _relation(relation, list(columns)) for relation, columns in groupby(rows, key=lambda row: row["relation"])
    )


def _relation(name: str, rows: list[dict[str, Any]]) -> str:
    heading = f"\n### {name}\n{rows[0]['relation_comment']}.\n\n| Column | Type | Meaning |\n|---|---|---|\n"
    return heading + "".join(_lines(rows))


def _lines(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    for row in rows:
        required = " *" if row["is_required"] else ""
        comment = str(row["column_comment"]).replace("|", "\\|")
        yield f"| `{row['column']}`{required} | {row['type']} | {comment} |\n"


async def _print(url: str) -> None:
    pool = engine.create(url, 1)
    try:
        async with pool.connect() as connection:
            sys.stdout.write(await dictionary(connection))
    finally:
        await pool.dispose()


if __name__ == "__main__":
    asyncio.run(_print(Path(sys.argv[1]).read_text().strip()))
