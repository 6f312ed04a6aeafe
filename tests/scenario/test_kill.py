"""Peers killed in the middle of it all: what anybody was told is committed is there, once, at both hospitals."""

from __future__ import annotations

import asyncio

from emr_deploy.callers import Answer
from support.ledger_access import LedgerAccess
from support.sharing_steps import Cast, Steps
from support.stack import Stack

WRITERS, NOTES = 4, 5


async def test_a_kill_under_load_loses_no_note_that_was_answered(
    stack: Stack, cast: Cast, ledger: LedgerAccess
) -> None:
    everybody = [await Steps.begin(stack, cast, notes=1) for _ in range(WRITERS)]

    async def is_level() -> bool:
        return len(set(stack.heights().values())) == 1

    writing = [asyncio.create_task(_write(one)) for one in everybody]
    await asyncio.sleep(0.4)
    for process in stack.peer_processes:
        await stack.kill(process)
    answers = await asyncio.gather(*writing)
    await stack.ready(*(process.name for process in stack.system.processes))
    await stack.until(is_level, "every peer has the same blocks")
    for hospital in ("a", "b"):
        found = await ledger.transactions(hospital)
        for answer in (one for own in answers for one in own if one.status == 201):
            number, transaction = found[answer.body["transactionId"]]
            assert (number, transaction.is_valid) == (answer.body["block"], True)
    for steps, own in zip(everybody, answers, strict=True):
        told = [one.body["version"] for one in own if one.status == 201]
        version = (await steps.read())["version"]
        assert len(told) == len(set(told))
        assert 1 + len(told) <= version <= 1 + NOTES
        assert (await steps.post_note("After it.")).body["version"] == version + 1


async def _write(steps: Steps) -> list[Answer]:
    """One note after the other; while nobody answers for the ledger they are refused or left open, never repeated."""
    answers = [await steps.post_note(f"Note {number}.") for number in range(NOTES)]
    assert {one.status for one in answers} <= {201, 202, 503}, [one.body for one in answers]
    return answers
