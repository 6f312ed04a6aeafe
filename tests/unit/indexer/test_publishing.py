from __future__ import annotations

import sqlalchemy as sa
from emr_indexer import metrics
from emr_indexer.publishing import publish_if_due
from emr_readmodel.hospital import release
from sqlalchemy.ext.asyncio import AsyncEngine
from support.care_rows import OWNER, at_block


async def _releases(database: AsyncEngine) -> int:
    async with database.connect() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(release)) or 0


async def test_numbers_are_refreshed_once_a_day(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        await at_block(connection, 3)
    assert await publish_if_due(database, OWNER)
    assert not await publish_if_due(database, OWNER)
    assert await _releases(database) == 1
    assert metrics.RELEASED_AT._value.get() > 0
    async with database.begin() as connection:
        await connection.execute(sa.update(release).values(at=sa.text("now() - interval '1 day'")))
    assert await publish_if_due(database, OWNER)
    assert await _releases(database) == 2


async def test_without_a_block_it_stays_due(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        await at_block(connection, -1)
    for _ in range(2):
        assert await publish_if_due(database, OWNER)
    assert await _releases(database) == 0
