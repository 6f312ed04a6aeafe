"""How much of one caller's may wait in Postgres: nobody fills it by asking and never going on."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from emr_common import preparations, queued_notes
from emr_common.preparations import PreparationStore
from emr_common.problems import Problem
from emr_common.queued_notes import QueuedNote, QueuedNotes
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_readmodel.hospital import import_job, preparation, queued_note
from emr_records import store as imports
from emr_records.store import ImportJob, ImportStore
from sqlalchemy.ext.asyncio import AsyncEngine

Ask = Callable[[AsyncEngine, str, str], Awaitable[object]]
MOST = 3


async def prepare(engine: AsyncEngine, caller: str, name: str) -> object:
    return await PreparationStore(engine).add(name, caller, Function.ADD_EMR_NOTE, {}, b"proposal")


async def queue(engine: AsyncEngine, caller: str, name: str) -> None:
    await QueuedNotes(engine).add(QueuedNote(name, "e", caller, "n", "text", None, b"sealed"))


async def bring_in(engine: AsyncEngine, caller: str, name: str) -> None:
    await ImportStore(engine).add(ImportJob(name, "e", caller, "queued", b"sealed"), ())


GOES_ON: dict[Ask, sa.Update] = {
    prepare: sa.update(preparation).values(submitted_at=sa.func.now()),
    queue: sa.update(queued_note).values(state="committed", finished_at=sa.func.now()),
    bring_in: sa.update(import_job).values(state="done", finished_at=sa.func.now()),
}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparations, "MOST_OPEN", MOST)
    monkeypatch.setattr(queued_notes, "MOST_WAITING", MOST)
    monkeypatch.setattr(imports, "MOST_UNFINISHED", MOST)


@pytest.mark.parametrize("ask", GOES_ON)
async def test_only_so_much_of_a_callers_waits_until_something_goes_on(engine: AsyncEngine, ask: Ask) -> None:
    caller, other = secrets.token_hex(8), secrets.token_hex(8)
    names = [secrets.token_hex(32) for _ in range(MOST)]
    for name in names:
        await ask(engine, caller, name)
    with pytest.raises(Problem) as refused:
        await ask(engine, caller, secrets.token_hex(32))
    assert (refused.value.code, refused.value.headers["Retry-After"]) == (Code.TOO_MANY_REQUESTS, "60")
    await ask(engine, other, secrets.token_hex(32))
    async with engine.begin() as connection:
        await connection.execute(GOES_ON[ask].where(sa.column("caller") == caller))
    await ask(engine, caller, secrets.token_hex(32))


@pytest.mark.parametrize("ask", [queue, bring_in])
async def test_what_waits_already_may_be_given_again(engine: AsyncEngine, ask: Ask) -> None:
    caller = secrets.token_hex(8)
    names = [secrets.token_hex(32) for _ in range(MOST)]
    for name in [*names, *names]:
        await ask(engine, caller, name)


async def test_preparations_that_are_void_do_not_count(engine: AsyncEngine) -> None:
    caller = secrets.token_hex(8)
    for _ in range(MOST):
        await prepare(engine, caller, secrets.token_hex(32))
    async with engine.begin() as connection:
        long_ago = sa.update(preparation).values(prepared_at=sa.func.now() - timedelta(minutes=11))
        await connection.execute(long_ago.where(preparation.c.caller == caller))
    await prepare(engine, caller, secrets.token_hex(32))
