"""Statements that go around SQLAlchemy's execution, on a table of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from emr_common.problems import install
from emr_common.statements import Statement
from emr_readmodel import engine as engines
from fastapi import FastAPI
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from support.postgres import PostgresServer, empty_database

TABLE = sa.table("t", sa.column("n", sa.Integer()))
INSERT = Statement(sa.insert(TABLE).from_select(["n"], sa.select(sa.bindparam("given", type_=sa.Integer()))))
SELECT = Statement(sa.select(TABLE.c.n).where(TABLE.c.n == sa.bindparam("given")))
SLEEP = Statement(sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Integer()))))
BACKEND = Statement(sa.select(sa.func.pg_backend_pid().label("pid")))
END = Statement(sa.select(sa.func.pg_terminate_backend(sa.bindparam("pid", type_=sa.Integer()))))


@pytest.fixture(params=[1, 2], ids=["given back", "kept at hand"])
async def engine(server: PostgresServer, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """Of a pool from which one connection or none may be kept."""
    async with empty_database(server) as url:
        engine = engines.create(url, request.param)
        async with engine.begin() as connection:
            await connection.execute(sa.text("create table t (n integer primary key)"))
        yield engine
        await engine.dispose()


async def test_a_statement_is_a_transaction_and_a_failed_one_leaves_nothing(engine: AsyncEngine) -> None:
    assert await INSERT.run(engine, given=1) == 1
    with pytest.raises(DBAPIError) as failure:
        await INSERT.run(engine, given=1)
    assert "1" not in str(failure.value.params)
    assert await SELECT.row(engine, given=2) is None
    found = await SELECT.row(engine, given=1)
    assert found is not None and found["n"] == 1
    async with engine.connect() as connection:
        await connection.execute(sa.insert(TABLE).values(n=4))  # no commit: a transaction as ever
    assert await SELECT.row(engine, given=4) is None


async def test_the_next_statement_knows_nothing_of_one_that_was_broken_off(engine: AsyncEngine) -> None:
    before = await BACKEND.row(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await SLEEP.row(engine, seconds=600)
    after = await BACKEND.row(engine)
    assert before is not None and after is not None and before["pid"] != after["pid"]


async def test_a_connection_that_ends_under_a_statement_says_so_and_is_replaced(engine: AsyncEngine) -> None:
    before = await BACKEND.row(engine)
    assert before is not None
    with pytest.raises(DBAPIError) as failure:
        await END.row(engine, pid=before["pid"])
    assert failure.value.connection_invalidated
    after = await BACKEND.row(engine)
    assert after is not None and after["pid"] != before["pid"]


async def test_statements_leave_half_of_the_pool_to_others(server: PostgresServer) -> None:
    async with empty_database(server) as url:
        engine = engines.create(url, 4)
        await asyncio.gather(*(BACKEND.row(engine) for _ in range(16)))
        async with engine.connect(), engine.connect():
            assert await BACKEND.row(engine) is not None
        await engine.dispose()


async def test_a_statement_takes_the_names_that_it_has_and_no_others(engine: AsyncEngine) -> None:
    for given in ({}, {"given": 1, "more": 2}):
        with pytest.raises(AssertionError):
            await SELECT.row(engine, **given)


@pytest.mark.parametrize("how", ["by a statement", "by SQLAlchemy"])
async def test_a_postgres_that_turns_connections_away_is_unavailable(server: PostgresServer, how: str) -> None:
    async with empty_database(server) as url:
        superuser, role = engines.create(url, 1), f"nobody_{uuid4().hex}"
        async with superuser.begin() as connection:
            await connection.execute(sa.text(f"create role {role} login connection limit 0"))
        engine = engines.create(make_url(url).set(username=role), 1)
        app = FastAPI()
        install(app)

        @app.get("/")
        async def ask() -> None:
            if how == "by a statement":
                await BACKEND.row(engine)
            async with engine.connect():
                pass

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        async with superuser.begin() as connection:
            await connection.execute(sa.text(f"drop role {role}"))
        await engine.dispose()
        await superuser.dispose()
