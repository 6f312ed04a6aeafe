"""What is forgotten, and what is not."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common import retention
from emr_common.chores import Chore, do_once
from emr_common.retention import Retention
from emr_readmodel.hospital import idempotency, transaction
from sqlalchemy.ext.asyncio import AsyncEngine


def ago(**span: float) -> sa.ColumnElement[Any]:
    return sa.func.now() - timedelta(**span)


KEYS: Mapping[str, tuple[dict[str, Any], bool]] = {
    "answered long ago": ({"state": "done", "started_at": ago(days=8), "finished_at": ago(days=8)}, True),
    "answered lately": ({"state": "done", "started_at": ago(days=6), "finished_at": ago(days=6)}, False),
    "answered at last": ({"state": "done", "started_at": ago(days=20), "finished_at": ago(days=1)}, False),
    "under way": ({"state": "running", "started_at": ago(minutes=1)}, False),
    "broken off": ({"state": "running", "started_at": ago(days=8)}, False),
    "broken off long ago": ({"state": "running", "started_at": ago(days=31)}, True),
}
TRANSACTIONS: Mapping[str, tuple[dict[str, Any], bool]] = {
    "committed long ago": ({"state": "committed", "settled_at": ago(days=91)}, True),
    "invalid long ago": ({"state": "invalid", "settled_at": ago(days=91)}, True),
    "committed lately": ({"state": "committed", "settled_at": ago(days=89)}, False),
    "without an outcome": ({"state": "pending", "created_at": ago(days=900)}, False),
}


async def insert(engine: AsyncEngine, table: sa.Table, row: Mapping[str, Any]) -> str:
    name = secrets.token_hex(16)
    given = {"caller": name, "key": name, "route": "POST /x", "request_sha256": b"x"}
    if table is transaction:
        given = {"transaction_id": name, "caller": name, "function": "CreateEmr"}
    async with engine.begin() as connection:
        await connection.execute(sa.insert(table).values({**given, **row}))
    return name


async def count(engine: AsyncEngine, table: sa.Table, caller: str) -> int:
    async with engine.connect() as connection:
        query = sa.select(sa.func.count()).select_from(table).where(table.c.caller == caller)
        return int(await connection.scalar(query) or 0)


@pytest.mark.parametrize("name", KEYS)
async def test_an_idempotency_key_is_kept_for_its_time(engine: AsyncEngine, name: str) -> None:
    row, is_forgotten = KEYS[name]
    caller = await insert(engine, idempotency, row)
    await Retention(engine).run()
    assert await count(engine, idempotency, caller) == (0 if is_forgotten else 1)


@pytest.mark.parametrize("name", TRANSACTIONS)
async def test_a_transaction_is_kept_for_its_time(engine: AsyncEngine, name: str) -> None:
    row, is_forgotten = TRANSACTIONS[name]
    caller = await insert(engine, transaction, row)
    await Retention(engine).run()
    assert await count(engine, transaction, caller) == (0 if is_forgotten else 1)


async def test_many_rows_are_forgotten_in_small_steps(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "MOST_BATCHES", 2)
    await Retention(engine).run()
    for _ in range(8):
        await insert(engine, idempotency, KEYS["answered long ago"][0])
    assert [await Retention(engine).run() for _ in range(3)] == [6, 2, 0]


async def test_a_chore_is_done_by_one_process_at_a_time_and_its_failure_is_no_end(engine: AsyncEngine) -> None:
    seen: list[str] = []

    async def meanwhile() -> None:
        seen.append(await do_once(engine, Chore(name, 1, meanwhile)))

    async def fails() -> None:
        raise OSError

    name = f"test-{secrets.token_hex(4)}"
    assert await do_once(engine, Chore(name, 1, meanwhile)) == "done"
    assert seen == ["elsewhere"]
    assert await do_once(engine, Chore(name, 1, fails)) == "failed"
    assert await do_once(engine, Chore(name, 1, meanwhile)) == "done"
