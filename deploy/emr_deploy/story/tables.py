"""The tables with which the story ends, as the hospitals' analysts see them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
from emr_network.home import Home
from emr_network.topology import Organization

ROWS_SECONDS = 60.0
POLL_SECONDS = 0.05

QUERIES = {
    "Visits by year and type, the latest": """
        select year, coalesce(encounter_type_display, encounter_type, 'unknown') as type, visits, patients
        from analytics.visits_by_year_and_type order by year desc, visits desc, type limit 15""",
    "Sharings": "select * from analytics.sharings order by owner_msp, recipient_msp, state",
    "Disclosures": "select * from analytics.disclosures order by month, owner_msp, recipient_msp, purpose",
}


class RowsMissing(Exception):
    """A read model did not reach the block in time."""


async def wait_for_rows(home: Home, organizations: list[Organization], block: int) -> float:
    """Until every hospital's rows are complete up to `block`; returns the seconds it took. Raises RowsMissing."""
    started = time.monotonic()
    await asyncio.gather(*(_wait(home, one, block) for one in organizations))
    return time.monotonic() - started


async def _wait(home: Home, organization: Organization, block: int) -> None:
    connection = await _connect(home, organization)
    try:
        deadline = time.monotonic() + ROWS_SECONDS
        while await _as_of(connection) < block:
            if time.monotonic() > deadline:
                raise RowsMissing(f"the rows of {organization.title} have not reached block {block}")
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await connection.close()


async def tables(home: Home, organization: Organization) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The block that the rows stand for, and each table's rows."""
    connection = await _connect(home, organization)
    try:
        found = {title: [dict(row) for row in await connection.fetch(query)] for title, query in QUERIES.items()}
        return await _as_of(connection), found
    finally:
        await connection.close()


async def _as_of(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    return int(await connection.fetchval("select block from analytics.as_of"))


async def _connect(home: Home, organization: Organization) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(home.secret(organization.name, "analyst-url").read_text(), timeout=10)
