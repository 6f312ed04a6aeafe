"""Transactions of the roles of people: whoever reads for long, or leaves a transaction open, holds up what changes the
schema (others then wait behind that), and keeps Postgres from clearing away old rows.

What a session may take is a setting that it may change, so time is seen to from outside, by a function of the owner's.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

PATIENCE_SECONDS = 60
"""What a change of the schema waits for them."""

LONGEST_SECONDS = 900
"""What nobody needs: an export gives up after 10 minutes."""

END = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where datname = current_database() and usename ~ '^emr_(analyst|public)_' and pg_has_role(usesysid, 'usage')
        and xact_start <= clock_timestamp() - make_interval(secs => {seconds})
"""

FUNCTION = f"""
create or replace function hospital.end_long_reads(seconds integer) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$ {END.format(seconds="seconds")} $$
"""
"""Ends the sessions of readers whose transaction began that long ago, and tells how many."""

SIGNATURE = "hospital.end_long_reads(integer)"


async def end_long_reads(engine: AsyncEngine, seconds: int) -> int:
    """As the service's role, which may not end sessions itself. Returns how many have ended."""
    async with engine.begin() as connection:
        ended: int = (await connection.scalars(sa.select(sa.func.hospital.end_long_reads(seconds)))).one()
        return ended


def create_statements() -> Iterator[str]:
    """Run at each upgrade, as the function's owner-to-be."""
    yield FUNCTION
    yield f"revoke all on function {SIGNATURE} from public"
