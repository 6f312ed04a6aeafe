from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from emr_readmodel import engine
from emr_readmodel.roles import Roles, provision
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from support.postgres import PostgresServer

READERS = ("analyst", "public")


@pytest.fixture(scope="session")
async def urls(server: PostgresServer) -> AsyncIterator[dict[str, URL]]:
    passwords = {"analyst_password": "a:b'c", "public_password": "p"}
    first = await provision(server.url(), "t1", service_password="first", **passwords)
    again = await provision(server.url(), "t1", service_password="sec:ret'\\", **passwords)
    assert first["analyst"] == again["analyst"]
    await provision(server.url(), "t2", service_password="x", analyst_password="x", public_password="x")
    yield again


async def _run(url: URL, statement: str) -> object:
    pool = engine.create(url, 1)
    try:
        async with pool.begin() as connection:
            return (await connection.execute(sa.text(statement))).rowcount
    finally:
        await pool.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into hospital.patient_identifier(identifier_hmac, patient_id, emr_id) values ('', '', '')",
        "insert into care.position(partition, block) values (0, 1) on conflict do nothing",
        "delete from hospital.emr_key",
        "select * from analytics.visit",
    ],
)
async def test_the_service_works_with_rows(urls: dict[str, URL], statement: str) -> None:
    await _run(urls["service"], statement)


@pytest.mark.parametrize(
    "statement",
    ["drop table care.note", "alter table care.note add x int", "create table care.x()"],
)
async def test_the_service_does_not_change_the_schema(urls: dict[str, URL], statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"must be owner|permission denied"):
        await _run(urls["service"], statement)


async def test_nobody_but_the_service_takes_the_locks_of_services(urls: dict[str, URL]) -> None:
    await _run(urls["service"], "select pg_advisory_xact_lock(1)")
    for reader in READERS:
        with pytest.raises(DBAPIError, match="permission denied for function"):
            await _run(urls[reader], "select pg_advisory_xact_lock(1)")


@pytest.mark.parametrize("database", ["care_t2", "postgres", "template1"])
@pytest.mark.parametrize("role", ["service", "analyst", "public"])
async def test_nobody_connects_to_another_database(urls: dict[str, URL], role: str, database: str) -> None:
    with pytest.raises(Exception, match="permission denied for database"):
        await _run(urls[role].set(database=database), "select 1")


@pytest.mark.parametrize("name", ["", "A", "a b", 'a"', "a;drop", "1a", "a" * 40])
def test_a_name_that_is_no_plain_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="short name"):
        Roles.of(name)
