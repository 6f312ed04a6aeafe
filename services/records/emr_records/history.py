"""What Postgres has about one own EMR: where its notes stand on the ledger, and who read it at this hospital."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from emr_common.access_log import AccessLog
from emr_model.ledger.functions import Role
from emr_readmodel.care import disclosure, note
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_records.readable.document import Access, Placed

MOST_ACCESSES = 10_000


class HistoryStore:
    def __init__(self, engine: AsyncEngine, access_log: AccessLog, msp_id: str) -> None:
        self._engine = engine
        self._access_log = access_log
        self._msp_id = msp_id

    async def places(self, emr_id: str) -> dict[int, Placed]:
        """By version; notes that are not in the read model yet are missing."""
        query = sa.select(note.c.version, note.c.transaction_id, note.c.block).where(note.c.emr_id == emr_id)
        async with self._engine.connect() as connection:
            return {version: Placed(*where) for version, *where in await connection.execute(query)}

    async def accesses(self, emr_id: str) -> list[Access]:
        """The newest ones when there are very many; the oldest of them first."""
        reads = await self._access_log.of(emr_id, MOST_ACCESSES)
        return [Access(one.at, self._msp_id, one.reader, one.role, one.action, one.purpose) for one in reads]

    async def disclosures(self, emr_id: str) -> dict[str, Access]:
        """Reads by other hospitals that are in the read model, by the receipt's transaction."""
        columns = (disclosure.c[name] for name in ("transaction_id", "at", "recipient_msp", "reader", "purpose"))
        query = sa.select(*columns).where(disclosure.c.emr_id == emr_id)
        async with self._engine.connect() as connection:
            rows = await connection.execute(query)
            return {row[0]: shared_read(row.at, row.recipient_msp, row.reader, row.purpose) for row in rows}


def shared_read(at: datetime, hospital: str, reader: str, purpose: str) -> Access:
    """A read by another hospital, as its receipt says."""
    return Access(at, hospital, reader, Role.PHYSICIAN.value, "read-shared-emr", purpose)
