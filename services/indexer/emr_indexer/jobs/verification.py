"""Whether every row is what the ledger says: the ledger's blocks are projected anew beside them, and compared.

On the way each content's sha256 and commitment are computed again from the peer's bytes; nothing is taken from rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from emr_readmodel import care
from emr_readmodel.shadows import VERIFY
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.comparison import Among, Comparison, apart, compare
from emr_indexer.jobs.parts import all_pieces
from emr_indexer.jobs.runner import Tell
from emr_indexer.jobs.shadow import Shadow, Source
from emr_indexer.jobs.store import Job

ATTEMPTS = 5
WAIT_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Verification:
    def __init__(self, engine: AsyncEngine, source: Source) -> None:
        self._engine = engine
        self._source = source

    async def do(self, job: Job, tell: Tell) -> Mapping[str, Any]:
        """``rows`` compared, ``differences`` and how many, up to which ``block``, how many EMRs are ``parked``."""
        shadow = Shadow(self._engine, self._source, VERIFY)
        try:
            await shadow.make()
            told = await self._verify(shadow, tell)
        finally:
            await shadow.drop()
        if told["found"]:
            log.critical("rows_differ_from_ledger", differences=told["found"], job_id=job.job_id)
        return told

    async def _verify(self, shadow: Shadow, tell: Tell) -> Mapping[str, Any]:
        """What moves meanwhile is compared once both sides are at the same event."""
        whole = Comparison()
        async with self._engine.connect() as connection:
            subjects = (await connection.scalars(sa.select(sa.func.count()).select_from(care.emr_position))).one()
        among = all_pieces(subjects)
        for attempt in range(ATTEMPTS):
            last = await self._source.blocks.last()

            async def told(block: int, last: int = last) -> None:
                await tell({"block": block, "lastBlock": last})

            await shadow.fill(last, told)
            compared = await self._compare(among, is_last=attempt == ATTEMPTS - 1)
            whole.add(compared)
            if not compared.moving:
                break
            among = [Among(subjects=frozenset(compared.moving))]
            await asyncio.sleep(WAIT_SECONDS)
        async with self._engine.connect() as connection:
            parked = await connection.scalar(sa.select(sa.func.count()).select_from(care.parked))
        return {**whole.result, "block": shadow.block, "parked": parked}

    async def _compare(self, among: Iterable[Among], *, is_last: bool) -> Comparison:
        """Each piece in a snapshot of its own."""
        compared = Comparison()
        for piece in among:
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="REPEATABLE READ")
                moving = set() if is_last else await apart(connection, VERIFY, piece)
                compared.add(await compare(connection, VERIFY, piece, moving))
        return compared
