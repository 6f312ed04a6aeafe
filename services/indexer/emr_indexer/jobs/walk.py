"""The rows compared with the ledger all the time, at a low rate: one part of the EMRs after the other, for ever.

A part's facts are projected anew into a shadow, so many blocks a second, and its rows compared by and by. What is done
survives a restart: parts as verifications that are done, the part at hand as its half filled shadow.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog
from emr_readmodel import care
from emr_readmodel.shadows import WALK
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.comparison import Among, Comparison, apart, compare
from emr_indexer.jobs.parts import PARTS, part_of, pieces
from emr_indexer.jobs.shadow import Shadow, Source
from emr_indexer.jobs.store import JobStore
from emr_indexer.postgres import may_pass
from emr_indexer.projector.store import WALK_LOCKS

ATTEMPTS = 5
_UNSEEN = "(a.block > :shadow_block or b.block > (select min(block) from care.position))"
"""What one side has seen and the other need not have seen yet."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pace:
    """How much at a time. ``walk_seconds`` is how long it may take to read the ledger for every part; a longer ledger
    is read faster than ``blocks_a_second``.
    """

    first_after_seconds: float = 600.0
    between_parts_seconds: float = 300.0
    blocks_a_second: float = 50.0
    walk_seconds: float = 86_400.0
    between_comparisons_seconds: float = 1.0
    settle_seconds: float = 2.0


class Walk:
    """Where one process of a hospital leads. What moves is compared once both sides are at the same event."""

    def __init__(self, engine: AsyncEngine, source: Source, pace: Pace) -> None:
        self._engine = engine
        self._source = source
        self._store = JobStore(engine)
        self._pace = pace

    async def run(self) -> None:
        """Until cancelled. Raises what passes when Postgres does; anything else is tried again."""
        await asyncio.sleep(self._pace.first_after_seconds)
        while True:
            try:
                await self.one_part()
            except Exception as error:
                if may_pass(error):
                    raise
                log.error("walk_interrupted", exc_info=error)
            await asyncio.sleep(self._pace.between_parts_seconds)

    async def one_part(self) -> Comparison:
        """The one that was compared longest ago."""
        part, started_at = await self._store.next_part(), datetime.now(UTC)
        shadow = Shadow(self._engine, self._source, WALK, WALK_LOCKS, lambda subject: part_of(subject) == part)
        generation = f"{part} of {await self._columns()}"
        if not await shadow.resume(generation):
            await shadow.make(generation)
        await self._fill(shadow)
        comparison = await self._compare(shadow, part)
        job_id = secrets.token_hex(16)
        await self._store.add_part(job_id, part, started_at, {**comparison.result, "block": shadow.block})
        if comparison.found:
            log.critical("rows_differ_from_ledger", differences=comparison.found, job_id=job_id)
        await shadow.drop()
        return comparison

    async def _columns(self) -> str:
        """A shadow that was made before a migration is of no use any more."""
        query = sa.text(
            """
            select md5(string_agg(concat_ws(' ', relname, attname, atttypid), ',' order by relname, attnum))
            from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'care'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
            """.replace("::", r"\:\:")
        )
        async with self._engine.connect() as connection:
            return str(await connection.scalar(query))

    async def _fill(self, shadow: Shadow) -> None:
        last = await self._source.blocks.last()
        rate = max(self._pace.blocks_a_second, len(PARTS) * last / self._pace.walk_seconds)
        while shadow.block < last:
            began_seconds, began_block = time.monotonic(), shadow.block
            await shadow.fill(min(last, began_block + max(1, int(rate))), _untold)
            due_seconds = began_seconds + (shadow.block - began_block) / rate
            await asyncio.sleep(max(0.0, due_seconds - time.monotonic()))

    async def _compare(self, shadow: Shadow, part: str) -> Comparison:
        whole = Comparison()
        async with shadow.engine.connect() as connection:
            query = sa.select(sa.func.count()).select_from(care.emr_position)
            subjects = (await connection.scalars(query)).one()
        for among in pieces(part, subjects):
            whole.add(await self._compare_piece(shadow, among))
            await asyncio.sleep(self._pace.between_comparisons_seconds)
        return whole

    async def _compare_piece(self, shadow: Shadow, among: Among) -> Comparison:
        """What differs is looked at again: rows and keys of an EMR that is erased just now go one after the other."""
        for attempt in range(ATTEMPTS):
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="REPEATABLE READ")
                moving = await apart(connection, WALK, among, _UNSEEN, shadow_block=shadow.block)
                comparison = await compare(connection, WALK, among, moving)
            if attempt == ATTEMPTS - 1 or not (comparison.moving or comparison.found):
                break
            await asyncio.sleep(self._pace.settle_seconds)
            await shadow.fill(await self._source.blocks.last(), _untold)
        return comparison


async def _untold(_: int) -> None: ...
