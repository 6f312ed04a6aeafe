"""What `emr sql` sends to Postgres, and what it says of the answer."""

from __future__ import annotations

import pytest
from emr_deploy.commands.queries import QueryFailed, fetch
from support.postgres import PostgresServer


async def test_rows_come_by_the_names_of_their_columns(server: PostgresServer) -> None:
    assert await fetch(server.url(), "select 1 as visits, null as month") == [{"visits": 1, "month": None}]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select 1 as n, 2 as n", "same name"),
        ("create table t ()", "read-only"),
        ("select $1::int", "argument"),
        ("select 1; select 2", "multiple commands"),
    ],
)
async def test_what_cannot_be_answered_is_said(server: PostgresServer, query: str, said: str) -> None:
    with pytest.raises(QueryFailed, match=said):
        await fetch(server.url(), query)


async def test_rows_are_changed_where_that_is_wanted(server: PostgresServer) -> None:
    assert await fetch(server.url(), "create temp table t ()", writes=True) == []
