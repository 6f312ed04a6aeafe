"""What Postgres has about one own EMR: where its notes stand on the ledger, and who read it at this hospital."""

from __future__ import annotations

import sqlalchemy as sa
from emr_readmodel.care import note
from emr_readmodel.hospital import access_log
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_records.readable.document import Access, Placed

MOST_ACCESSES = 10_000


class HistoryStore:
    def __init__(self, engine: AsyncEngine, msp_id: str) -> None:
        self._engine = engine
        self._msp_id = msp_id

    async def places(self, emr_id: str) -> dict[int, Placed]:
        """By version; notes that are not in the read model yet are missing."""
        query = sa.select(note.c.version, note.c.transaction_id, note.c.block).where(note.c.emr_id == emr_id)
        async with self._engine.connect() as connection:
            return {version: Placed(*where) for version, *where in await connection.execute(query)}

    async def accesses(self, emr_id: str) -> list[Access]:
        """The newest ones when there are very many; the oldest of them first."""
        columns = (access_log.c[name] for name in ("at", "reader", "role", "action", "purpose"))
        query = sa.select(*columns).where(access_log.c.emr_id == emr_id)
        newest = query.order_by(access_log.c.at.desc(), access_log.c.id.desc()).limit(MOST_ACCESSES)
        async with self._engine.connect() as connection:
            rows = reversed((await connection.execute(newest)).all())
            return [Access(row.at, self._msp_id, row.reader, row.role, row.action, row.purpose) for row in rows]
