"""Making schema ``care`` anew from the peer's block 0, while the old one serves; then, at once, the new one does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from emr_readmodel import care, readers
from emr_readmodel.shadows import REBUILD
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_indexer.jobs.runner import JobFailed, Tell
from emr_indexer.jobs.shadow import Shadow, Source
from emr_indexer.jobs.store import Job
from emr_indexer.postgres import may_pass
from emr_indexer.projector import store

SCHEMA_CHANGED = "CR001"
LOCK_NOT_HAD = "55P03"
PROJECTOR_SECONDS, TABLE_SECONDS = 5, 2
SWAP_ATTEMPTS = 60

log = structlog.get_logger(__name__)


class Rebuild:
    def __init__(
        self,
        engine: AsyncEngine,
        source: Source,
        partitions: int,
        patience_seconds: int = readers.PATIENCE_SECONDS,
    ) -> None:
        """``patience_seconds`` is what it waits for people who read before it ends their sessions."""
        self._patience_seconds = patience_seconds
        self._engine = engine
        self._source = source
        self._partitions = partitions

    async def do(self, job: Job, tell: Tell) -> Mapping[str, Any]:
        """``block`` up to which the new rows are, and how many EMRs are parked in them."""
        shadow = Shadow(self._engine, self._source, REBUILD)
        await shadow.make()
        for _ in range(3):  # each time fewer blocks have come meanwhile
            last = await self._source.blocks.last()

            async def told(block: int, last: int = last) -> None:
                await tell({"block": block, "lastBlock": last})

            await shadow.fill(last, told)
        await self._swap(shadow)
        log.info("rebuilt", block=shadow.block)
        return {"block": shadow.block, "parked": await store.count_parked(self._engine)}

    async def _swap(self, shadow: Shadow) -> None:
        """Whoever holds a table for long makes this wait; then it steps back and lets others through."""
        for attempt in range(SWAP_ATTEMPTS):
            try:
                async with self._engine.begin() as connection:
                    await self._catch_up_and_swap(connection, shadow)
                return
            except DBAPIError as error:
                sqlstate = getattr(error.orig, "sqlstate", None)
                if sqlstate == SCHEMA_CHANGED:
                    raise JobFailed("SCHEMA_CHANGED") from error
                if sqlstate == LOCK_NOT_HAD and attempt == SWAP_ATTEMPTS - 1:
                    raise JobFailed("TABLES_HELD") from error
                if not may_pass(error) or attempt == SWAP_ATTEMPTS - 1:
                    raise
                log.warning("swap_put_off", exc_info=error)
            await self._end_long_reads()
            await asyncio.sleep(1)

    async def _end_long_reads(self) -> None:
        if ended := await readers.end_long_reads(self._engine, self._patience_seconds):
            log.warning("long_reads_ended", sessions=ended)

    async def _catch_up_and_swap(self, connection: AsyncConnection, shadow: Shadow) -> None:
        """Projectors stand still from here to the commit, so what they have done the shadow has too."""
        await _wait_for_locks(connection, PROJECTOR_SECONDS)
        await store.lock_partitions(connection, range(self._partitions))
        reached = await connection.scalar(sa.select(sa.func.max(care.position.c.block)))

        async def told(_: int) -> None: ...

        await shadow.fill(max(shadow.block, -1 if reached is None else reached), told)
        given_up = await _records_given_up(connection)
        await self._spread_position(shadow, given_up)
        await _tell_what_is_new(connection)
        await _wait_for_locks(connection, TABLE_SECONDS)
        await connection.execute(sa.select(sa.func.hospital.swap_shadow()))

    async def _spread_position(self, shadow: Shadow, given_up: list[dict[str, Any]]) -> None:
        """To as many partitions as the topic has. Records that are no messages need no second look."""
        async with shadow.engine.begin() as connection:
            marked_at = await connection.scalar(sa.select(sa.func.max(care.position.c.marked_at)))
            await connection.execute(sa.delete(care.position))
            rows = [
                {"partition": partition, "block": shadow.block, "marked_at": marked_at}
                for partition in range(self._partitions)
            ]
            await connection.execute(sa.insert(care.position), rows)
            if given_up:
                await connection.execute(insert(care.dead_letter).on_conflict_do_nothing(), given_up)


async def _wait_for_locks(connection: AsyncConnection, seconds: int) -> None:
    """At most so long for each, until the transaction's end."""
    await connection.execute(sa.select(sa.func.set_config("lock_timeout", f"{seconds}s", True)))


async def _tell_what_is_new(connection: AsyncConnection) -> None:
    """Streams and webhooks that have passed a block hear what they may not have: what is otherwise than before, or was
    to be told late.
    """
    passed = await store.passed_block(connection)
    for old in (care.sharing, care.disclosure):
        new = old.to_metadata(sa.MetaData(), schema=REBUILD)
        names = [column.name for column in old.c if column.name != "late_block"]
        is_as_before = sa.tuple_(*(new.c[name] for name in names)).is_not_distinct_from(
            sa.tuple_(*(old.c[name] for name in names))
        )
        is_same = sa.and_(*(new.c[column.name] == column for column in old.primary_key), is_as_before)
        await connection.execute(sa.update(new).where(is_same).values(late_block=old.c.late_block))
        is_new = sa.and_(new.c.block <= passed, ~sa.exists().where(is_same))
        await connection.execute(sa.update(new).where(is_new).values(late_block=passed + 1))


async def _records_given_up(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Dead letters about records, not about the ledger, as resolved: the rows no longer depend on what they hid."""
    table = care.dead_letter
    now = (await connection.scalars(sa.select(sa.func.now()))).one()
    found = await connection.execute(sa.select(table).where(table.c.event_id.like("kafka/%")))
    return [{**row, "resolved_at": now} for row in found.mappings()]
