"""What a request may have left behind: blocks, and rows in any table of any hospital."""

from __future__ import annotations

from collections import Counter

import asyncpg
from support.stack import Stack

TABLES = """
    select format('%I.%I', n.nspname, c.relname) as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname in ('hospital', 'care') order by 1"""
OF_ITSELF = {"hospital.index_job": "requested_by = 'indexer'"}
"""Rows that come without any request: the indexer verifies its rows ten minutes after its start."""


async def footprint(stack: Stack) -> Counter[str]:
    """Number of blocks, and of rows by hospital and table."""
    counts = Counter({"blocks": stack.height})
    for organization in stack.system.topology.organizations:
        for table, rows in (await _rows(stack, organization.name)).items():
            counts[f"{organization.name} {table}"] = rows
    return counts


async def _rows(stack: Stack, organization: str) -> dict[str, int]:
    connection = await asyncpg.connect(stack.home.secret(organization, "database-url").read_text(), timeout=10)
    try:
        tables = [row["name"] for row in await connection.fetch(TABLES)]
        counted = (f"select '{one}' as name, count(*) as rows from {one} {_without(one)}" for one in tables)
        query = " union all ".join(counted)
        return {row["name"]: row["rows"] for row in await connection.fetch(query)}
    finally:
        await connection.close()


def _without(table: str) -> str:
    return f"where not ({OF_ITSELF[table]})" if table in OF_ITSELF else ""
