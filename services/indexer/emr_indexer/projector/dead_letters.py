"""What the relay did not believe, from its topic into the table that people look at."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import DeadLetter, decode
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_indexer.postgres import persistently
from emr_indexer.projector import metrics, store
from emr_indexer.projector.changes import Refused
from emr_indexer.projector.records import Record
from emr_indexer.refusals import Refusal

log = structlog.get_logger(__name__)


class DeadLetters:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def keep(self, records: Sequence[Record]) -> Sequence[Record]:
        """All of them, once they are committed. A Postgres that fails is waited for."""
        refused = [_read(record) for record in records]
        await persistently(lambda: self._put(refused))
        for each in refused:
            log.error("dead_letter", event_id=each.event_id, code=each.code)
            metrics.DEAD_LETTERS.labels(each.code).inc()
        return records

    async def _put(self, refused: Sequence[Refused]) -> None:
        async with self._engine.begin() as connection:
            await store.put_dead_letters(connection, refused)


def _read(record: Record) -> Refused:
    try:
        letter = decode(record.value)
    except ValueMalformed:
        letter = None
    if isinstance(letter, DeadLetter):
        return Refused.by_relay(letter)
    return Refused(f"dead-letters/{record.offset}", Refusal.MESSAGE_MALFORMED.value, "relay", "message")
