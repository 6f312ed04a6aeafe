"""Replaying a dead letter: what waits behind it is applied in order; a partition that it stopped goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from emr_readmodel.care import dead_letter, parked_event
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.jobs.runner import JobFailed, Tell
from emr_indexer.jobs.store import Job
from emr_indexer.projector.projector import Projector


class Replay:
    def __init__(self, engine: AsyncEngine, projector: Projector) -> None:
        self._engine = engine
        self._projector = projector

    async def do(self, job: Job, tell: Tell) -> Mapping[str, Any]:
        """``events`` that are in now, and whether the EMR still waits, or which partition was let go on."""
        event_id = str(job.argument["eventId"])
        async with self._engine.begin() as connection:
            query = sa.select(parked_event.c.subject).where(parked_event.c.event_id == event_id)
            subject = await connection.scalar(query)
            if subject is None:
                return await self._release(connection, event_id)
        replayed = await self._projector.replay(subject)
        return {"events": replayed.events, "parked": replayed.parked}

    async def _release(self, connection: Any, event_id: str) -> Mapping[str, Any]:
        """The projector that stopped sees it within seconds and takes the partition from where it stopped."""
        stands = sa.and_(dead_letter.c.event_id == event_id, dead_letter.c.resolved_at.is_(None))
        stopping = sa.update(dead_letter).where(stands, dead_letter.c.stops_partition)
        released = stopping.values(resolved_at=sa.func.now()).returning(dead_letter.c.partition)
        partition = await connection.scalar(released)
        if partition is None:
            raise JobFailed("NOTHING_WAITS")
        return {"events": 0, "parked": False, "partition": partition}
