from __future__ import annotations

import pytest
import sqlalchemy as sa
from emr_common import cursors
from emr_common.problems import Problem
from emr_indexer import handlers
from emr_indexer.projector import store as projector_store
from emr_indexer.projector.changes import Refused
from emr_indexer.store import IndexStore
from emr_readmodel import care
from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def store(database: AsyncEngine) -> IndexStore:
    await projector_store.prepare(database)
    async with database.begin() as connection:
        for number in range(5):
            letter = Refused(f"care/{number}/0/0", "END_DECREASED", "projector", "end", "f" * 32, "t")
            await projector_store.put_dead_letters(connection, [letter])
        stop = Refused("care/9/0/0", "VALUE_MALFORMED", "projector", "emr", None, "t", partition=2)
        await projector_store.put_dead_letters(connection, [stop])
        await connection.execute(sa.update(care.position).values(block=7))
        await connection.execute(sa.update(care.position).where(care.position.c.partition == 2).values(block=4))
    return IndexStore(database)


async def test_the_lag_is_that_of_the_slowest_partition(store: IndexStore) -> None:
    position = await handlers.position(store, ledger_height=9)
    assert (position.ledger_block, position.as_of_block, position.lag_blocks) == (8, 4, 4)
    assert [each.partition for each in position.partitions if each.stopped] == [2]


async def test_a_ledger_that_is_not_known_has_no_lag(store: IndexStore) -> None:
    position = await handlers.position(store, ledger_height=0)
    assert (position.ledger_block, position.lag_blocks) == (-1, 0)


async def test_dead_letters_come_page_by_page_the_newest_first(store: IndexStore) -> None:
    found: list[str] = []
    after = None
    while True:
        page = await handlers.dead_letters(store, resolved=None, limit=2, after=after)
        found += [letter.event_id for letter in page.dead_letters]
        assert page.as_of_block == 4
        after = page.next
        if after is None:
            break
    assert len(found) == len(set(found)) == 6
    assert found[0] == "care/9/0/0"


async def test_dead_letters_can_be_those_that_wait(store: IndexStore, database: AsyncEngine) -> None:
    async with database.begin() as connection:
        is_first = care.dead_letter.c.event_id == "care/0/0/0"
        await connection.execute(sa.update(care.dead_letter).where(is_first).values(resolved_at=sa.func.now()))
    assert len((await handlers.dead_letters(store, resolved=False, limit=9, after=None)).dead_letters) == 5
    (resolved,) = (await handlers.dead_letters(store, resolved=True, limit=9, after=None)).dead_letters
    assert resolved.event_id == "care/0/0/0"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "e30=",
        "W10=",
        "WyIyMDI2IiwgMSwgMl0=",
        "WyIyMDI2LTAxLTAxIiwiYSIsImIiXQ==",
        cursors.cursor(["2026-01-01T00:00:00Z", "\0", "b"]),
        cursors.cursor(["2026-01-01T00:00:00Z", "a", "\ud800"]),
        cursors.cursor(["0001-01-01T00:00:00+23:59", "a", "b"]),
        cursors.cursor(["9999-12-31T23:59:59-23:59", "a", "b"]),
    ],
)
async def test_a_cursor_of_somebody_else_is_refused(store: IndexStore, cursor: str) -> None:
    with pytest.raises(Problem):
        await handlers.dead_letters(store, resolved=None, limit=2, after=cursor)
