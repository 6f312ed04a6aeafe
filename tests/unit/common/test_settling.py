"""Transactions whose process died: their outcomes are learnt from the ledger, and nothing is sent again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common import settling
from emr_common.chores import chores
from emr_common.problems import Problem
from emr_common.settling import Settling
from emr_common.transactions import TransactionStore
from emr_model.ledger.codes import Code
from emr_readmodel.hospital import transaction
from hlf.commits import Commit
from sqlalchemy.ext.asyncio import AsyncEngine

VALID, MVCC_READ_CONFLICT = 0, 11


class Ledger:
    """Blocks as far as they are asked for here; there is nothing by which anything could be sent."""

    def __init__(self, known: Mapping[str, Commit]) -> None:
        self.known = dict(known)
        self.asked: list[str] = []
        self.is_away = False

    async def find(self, transaction_id: str) -> Commit | None:
        if self.is_away:
            raise Problem(Code.LEDGER_UNAVAILABLE)
        self.asked.append(transaction_id)
        return self.known.get(transaction_id)


async def left(engine: AsyncEngine, age: timedelta = timedelta(minutes=5), **row: Any) -> str:
    """A row as a process that died left it."""
    transaction_id = secrets.token_hex(32)
    given = {"transaction_id": transaction_id, "caller": "service", "function": "ShareEmrSnapshot", "state": "pending"}
    async with engine.begin() as connection:
        await connection.execute(sa.insert(transaction).values({**given, "created_at": sa.func.now() - age, **row}))
    return transaction_id


async def state(engine: AsyncEngine, transaction_id: str) -> tuple[str, str | None, int | None]:
    found = await TransactionStore(engine).find(transaction_id)
    assert found is not None
    return found.state, found.validation_code, found.block


async def test_what_stands_in_a_block_gets_its_outcome(engine: AsyncEngine) -> None:
    valid, invalid, unknown = [await left(engine) for _ in range(3)]
    ledger = Ledger({valid: Commit(valid, 7, VALID), invalid: Commit(invalid, 8, MVCC_READ_CONFLICT)})
    work = Settling(engine, ledger, TransactionStore(engine))
    assert await work.run() == 2
    assert await state(engine, valid) == ("committed", "VALID", 7)
    assert await state(engine, invalid) == ("invalid", "MVCC_READ_CONFLICT", 8)
    assert await state(engine, unknown) == ("pending", None, None)
    ledger.asked.clear()
    assert await work.run() == 0
    assert valid not in ledger.asked


async def test_what_is_under_way_and_what_nobody_handed_in_is_not_asked_for(engine: AsyncEngine) -> None:
    young, old = await left(engine, timedelta(seconds=5)), await left(engine, timedelta(days=8))
    done = await left(engine, state="committed", block=3, validation_code="VALID")
    ledger = Ledger({})
    await Settling(engine, ledger, TransactionStore(engine)).run()
    assert {young, old, done}.isdisjoint(ledger.asked)


async def test_all_of_many_are_settled(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "PAGE", 3)
    some = [await left(engine) for _ in range(8)]
    ledger = Ledger({one: Commit(one, 1, VALID) for one in some})
    assert await Settling(engine, ledger, TransactionStore(engine)).run() == 8


async def test_they_are_settled_when_a_process_starts_and_the_ledger_answers(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "EVERY_SECONDS", 0.05)
    one = await left(engine)
    ledger = Ledger({one: Commit(one, 1, VALID)})
    ledger.is_away = True
    async with chores(engine, Settling(engine, ledger, TransactionStore(engine)).chore()):
        await asyncio.sleep(0.1)
        ledger.is_away = False
        async with asyncio.timeout(30):
            while (await state(engine, one))[0] == "pending":
                await asyncio.sleep(0.01)
