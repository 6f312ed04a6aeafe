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
from emr_common.settings import RetentionSettings
from emr_readmodel.hospital import (
    idempotency,
    import_job,
    import_result,
    index_job,
    preparation,
    queued_note,
    transaction,
)
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
    "without an outcome": ({"state": "pending", "created_at": ago(days=89)}, False),
    "without an outcome for long": ({"state": "pending", "created_at": ago(days=91)}, True),
}


ENDED: Mapping[str, tuple[sa.Table, dict[str, Any], bool]] = {
    "a preparation of yesterday": (preparation, {"prepared_at": ago(hours=25)}, True),
    "a preparation of today": (preparation, {"prepared_at": ago(hours=23)}, False),
    "a note committed long ago": (queued_note, {"state": "committed", "finished_at": ago(days=91)}, True),
    "a note refused lately": (queued_note, {"state": "refused", "finished_at": ago(days=89)}, False),
    "a note that waits": (queued_note, {"state": "queued", "created_at": ago(days=900)}, False),
    "an import of long ago": (import_job, {"state": "done", "finished_at": ago(days=91)}, True),
    "an import of lately": (import_job, {"state": "failed", "finished_at": ago(days=89)}, False),
    "an import under way": (import_job, {"state": "running", "created_at": ago(days=900)}, False),
    "a job of long ago": (index_job, {"state": "done", "finished_at": ago(days=91)}, True),
    "a job under way": (index_job, {"state": "running", "created_at": ago(days=900)}, False),
}


IDS = {
    "transaction": "transaction_id",
    "preparation": "transaction_id",
    "queued_note": "ticket",
    "import_job": "import_id",
    "index_job": "job_id",
}
CALLERS = {"index_job": "requested_by"}
OF_TABLE: Mapping[str, dict[str, Any]] = {
    "transaction": {"function": "CreateEmr"},
    "preparation": {"function": "CreateEmr", "ids": {}, "proposal": b"x"},
    "queued_note": {"emr_id": "e", "note_id": "n", "kind": "text", "state": "queued"},
    "import_job": {"emr_id": "e"},
    "index_job": {"kind": "rebuild", "argument": {}},
}


async def insert(engine: AsyncEngine, table: sa.Table, row: Mapping[str, Any]) -> str:
    name = secrets.token_hex(16)
    given = {"caller": name, "key": name, "route": "POST /x", "request_sha256": b"x"}
    if table is not idempotency:
        given = {**OF_TABLE[table.name], IDS[table.name]: name, CALLERS.get(table.name, "caller"): name}
    async with engine.begin() as connection:
        await connection.execute(sa.insert(table).values({**given, **row}))
    return name


async def count(engine: AsyncEngine, table: sa.Table, caller: str) -> int:
    async with engine.connect() as connection:
        by = table.c[CALLERS.get(table.name, "caller")]
        query = sa.select(sa.func.count()).select_from(table).where(by == caller)
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


@pytest.mark.parametrize("name", ENDED)
async def test_what_has_ended_is_kept_for_its_time(engine: AsyncEngine, name: str) -> None:
    table, row, is_forgotten = ENDED[name]
    caller = await insert(engine, table, row)
    await Retention(engine).run()
    assert await count(engine, table, caller) == (0 if is_forgotten else 1)


async def test_times_are_the_settings(engine: AsyncEngine) -> None:
    old = await insert(engine, transaction, {"state": "committed", "settled_at": ago(days=3)})
    import_id = await insert(engine, import_job, {"state": "done", "finished_at": ago(days=3)})
    async with engine.begin() as connection:
        result = {"import_id": import_id, "position": 0, "note_id": "n"}
        await connection.execute(sa.insert(import_result).values(result))
    await Retention(engine, RetentionSettings(transactions_days=2, imports_days=2)).run()
    assert await count(engine, transaction, old) == await count(engine, import_job, import_id) == 0
    async with engine.connect() as connection:
        query = sa.select(import_result.c.import_id).where(import_result.c.import_id == import_id)
        assert (await connection.execute(query)).all() == []


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
