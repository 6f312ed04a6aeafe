"""From the ledger to rows: whatever stops, nothing is lost, and the lag says so."""

from __future__ import annotations

import pytest
from emr_deploy.status import status_of
from support.sharing_steps import Cast, Steps
from support.stack import Stack

VERSIONS = "select version from care.note where emr_id = $1 order by version"


async def _versions(stack: Stack, emr_id: str) -> list[int]:
    return [row["version"] for row in await stack.sql("a", VERSIONS, emr_id)]


async def _lag(stack: Stack) -> int | None:
    report = await status_of(stack.system)
    return next(one.lag for one in report.hospitals if one.name == "a")


@pytest.mark.parametrize("stopped", ["projector-a", "kafka", "relay-a"])
async def test_what_was_written_meanwhile_becomes_rows_afterwards(stack: Stack, cast: Cast, stopped: str) -> None:
    steps = await Steps.begin(stack, cast, notes=0)
    await stack.wait_for_rows("a")
    async with stack.stopped(stopped):
        added = await steps.note("Meanwhile.")
        assert await _lag(stack) == 1
        assert await _versions(stack, steps.patient.emr_id) == []
    await stack.wait_for_rows("a", added["block"])
    assert await _versions(stack, steps.patient.emr_id) == [1]


@pytest.mark.parametrize("killed", ["projector-a", "relay-a", "postgres", "kafka", "ledger", "records-a"])
async def test_a_process_that_is_killed_comes_back_and_nothing_is_lost(stack: Stack, cast: Cast, killed: str) -> None:
    steps = await Steps.begin(stack, cast, notes=1)
    await stack.kill(stack.ledger_process if killed == "ledger" else killed)
    await stack.ready(*(process.name for process in stack.system.processes))
    second = await steps.note("After the crash.")
    assert second["version"] == 2
    await stack.wait_for_rows("a", second["block"])
    assert await _versions(stack, steps.patient.emr_id) == [1, 2]


async def test_an_analyst_sees_months_and_bands_and_no_person(stack: Stack) -> None:
    await stack.wait_for_rows("a")
    columns = await stack.sql(
        "a", "select column_name from information_schema.columns where table_schema = 'analytics'"
    )
    names = {row["column_name"] for row in columns}
    assert {"month", "age_band", "pseudonym"} <= names
    assert not names & {"emr_id", "patient_id", "birth_date", "family_name", "given_names", "content", "note_id"}


@pytest.mark.parametrize("schema", ["care.note", "hospital.wallet", "hospital.emr_key"])
async def test_an_analyst_reaches_no_other_schema(stack: Stack, schema: str) -> None:
    with pytest.raises(Exception, match="permission denied"):
        await stack.sql("a", f"select * from {schema}", analyst=True)


async def test_one_hospitals_role_does_not_enter_the_others_database(stack: Stack) -> None:
    import asyncpg

    url = stack.home.secret("a", "database-url").read_text().replace("/care_a", "/care_b")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(url)
