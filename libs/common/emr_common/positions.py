"""How far the read model is: ``as_of_block`` on every answer from Postgres, ``min_block`` to wait for a write."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import sqlalchemy as sa
from emr_model.ledger.codes import Code
from emr_readmodel.care import position
from hlf.commits import CommitTracker
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_common.problems import Problem

WAIT_SECONDS = 10.0
OWN_WRITES_SECONDS = 1.0
POLL_SECONDS = 0.02


class Positions:
    def __init__(self, engine: AsyncEngine, tracker: CommitTracker) -> None:
        self._engine = engine
        self._tracker = tracker
        self._waited_for = -1

    async def wait_for(self, min_block: int | None, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Returns once everything up to ``min_block`` is in the read model; without one, once what this process itself
        has committed is, or when that has taken too long: ``as_of_block`` says so then.

        Raises Problem BLOCK_UNKNOWN for a block that the ledger does not have yet, INDEX_BEHIND with Retry-After when
        time ran out.
        """
        if min_block is None:
            await self._own_writes()
            return
        if min_block >= self._tracker.height:
            raise Problem(Code.BLOCK_UNKNOWN)
        await self.reach(min_block, timeout_seconds)

    async def _own_writes(self) -> None:
        """A block that did not come in time is waited for no more: an index that stands still delays few answers."""
        block = self._tracker.newest_own_block
        if block > self._waited_for:
            with suppress(Problem):
                await self.reach(block, OWN_WRITES_SECONDS)
            self._waited_for = max(self._waited_for, block)

    async def reach(self, block: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """The same for a block that the ledger is known to have. Raises Problem INDEX_BEHIND."""
        give_up_at = time.monotonic() + timeout_seconds
        while not await self.has(block):
            if time.monotonic() >= give_up_at:
                raise Problem(Code.INDEX_BEHIND)
            await asyncio.sleep(POLL_SECONDS)

    async def has(self, block: int) -> bool:
        """Whether everything up to this block is in the read model."""
        reached = await self.as_of_block()
        return reached is not None and reached >= block

    async def as_of_block(self) -> int | None:
        """Everything up to this block is in the read model; None before the first."""
        async with self._engine.connect() as connection:
            return await as_of_block(connection)


async def as_of_block(connection: AsyncConnection) -> int | None:
    """The same within a caller's transaction: with REPEATABLE READ it is the block that the transaction's rows stand
    at.
    """
    found: int | None = await connection.scalar(sa.select(sa.func.min(position.c.block)))
    return found
