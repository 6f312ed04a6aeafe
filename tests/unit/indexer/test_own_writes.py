"""A service that is asked right after it wrote answers with what it wrote."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import sqlalchemy as sa
from emr_common import positions
from emr_common.positions import Positions
from emr_common.problems import Problem
from emr_indexer.projector import store
from emr_readmodel import care
from hlf.commits import CommitTracker
from sqlalchemy.ext.asyncio import AsyncEngine


class Committed:
    """What a process knows of the channel: its height, and the newest block with a write of its own."""

    height = 10
    newest_own_block = -1


@pytest.fixture
async def ledger(database: AsyncEngine) -> Committed:
    await store.prepare(database)
    return Committed()


def _positions(database: AsyncEngine, ledger: Committed) -> Positions:
    return Positions(database, cast(CommitTracker, ledger))


async def _index_reaches(database: AsyncEngine, block: int) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.update(care.position).values(block=block))


async def test_an_answer_waits_for_what_its_own_process_wrote(
    database: AsyncEngine, ledger: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "OWN_WRITES_SECONDS", 60)
    ledger.newest_own_block = 7
    answering = asyncio.create_task(_positions(database, ledger).wait_for(None))
    await asyncio.sleep(0.2)
    assert not answering.done()
    await _index_reaches(database, 7)
    await answering


async def test_who_wrote_nothing_waits_for_nothing(database: AsyncEngine, ledger: Committed) -> None:
    asked = _positions(database, ledger)
    await asked.wait_for(None)
    assert not await asked.has(0)


async def test_an_index_that_stands_still_delays_one_answer_and_fails_none(
    database: AsyncEngine, ledger: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []

    async def reach(self: Positions, block: int, timeout_seconds: float = 0) -> None:
        waited.append(block)
        await original(self, block, timeout_seconds)

    original = Positions.reach
    monkeypatch.setattr(Positions, "reach", reach)
    monkeypatch.setattr(positions, "OWN_WRITES_SECONDS", 0.1)
    asked = _positions(database, ledger)
    for block in (7, 7, 8, 8):
        ledger.newest_own_block = block
        await asked.wait_for(None)
    assert waited == [7, 8]


@pytest.mark.parametrize(("block", "code"), [(10, "BLOCK_UNKNOWN"), (9, "INDEX_BEHIND")])
async def test_a_block_that_was_asked_for_is_there_or_the_answer_is_refused(
    database: AsyncEngine, ledger: Committed, block: int, code: Any
) -> None:
    with pytest.raises(Problem) as refused:
        await _positions(database, ledger).wait_for(block, 0.1)
    assert refused.value.code.name == code
