"""The story of `make demo`, told on the test system: every step, every refusal, nothing that is not so."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from emr_deploy.bundles import make_histories
from emr_deploy.callers import Callers
from emr_deploy.story.tables import tables, wait_for_rows
from emr_deploy.story.telling import Step, Teller
from emr_deploy.story.whole import tell
from support.ledger_access import LedgerAccess
from support.stack import Stack


@dataclass(frozen=True)
class Told:
    teller: Teller
    text: str
    last_block: int


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="told")
async def _told(stack: Stack) -> AsyncIterator[Told]:
    lines: list[str] = []
    teller = Teller(lines.append)
    bundles = list(make_histories(5, seed=secrets.randbelow(10**6)))
    async with Callers(stack.home, stack.system.ports) as callers:
        last = await tell(stack.system.topology, callers, bundles, teller, tag=secrets.token_hex(3))
    yield Told(teller, "\n".join(lines), last)


def _refused(told: Told) -> list[Step]:
    return [step for step in told.teller.steps if step.code]


async def test_it_shows_every_refusal_that_is_due(told: Told) -> None:
    assert [(step.status, step.code) for step in _refused(told)] == [
        (403, "ACCESS_NOT_GRANTED"),  # before any approval
        (412, "APPROVAL_VERSION_UNKNOWN"),  # the owner approves what nobody means
        (403, "ACCESS_NOT_GRANTED"),  # after one approval
        (403, "ACCESS_NOT_GRANTED"),  # after another patient's approval
        (412, "APPROVAL_VERSION_UNKNOWN"),  # the patient approves what nobody means
        (403, "ACCESS_NOT_GRANTED"),  # after the patient removed the sharing
    ]


async def test_every_id_and_block_that_it_prints_is_on_the_ledger(told: Told, ledger: LedgerAccess) -> None:
    on_ledger = await ledger.transactions("b")
    printed = [(step.transaction_id, step.block) for step in told.teller.steps if step.transaction_id]
    printed += told.teller.notes
    assert len(printed) > 15
    for transaction_id, block in printed:
        assert transaction_id in told.text
        number, transaction = on_ledger[transaction_id]
        assert (number, transaction.is_valid) == (block, True)


async def test_a_refusal_leaves_nothing_on_the_ledger(told: Told) -> None:
    assert all(step.transaction_id is None and step.block is None for step in _refused(told))


@pytest.mark.parametrize("organization", ["a", "b"])
async def test_it_ends_with_rows_as_of_its_last_block(stack: Stack, told: Told, organization: str) -> None:
    hospital = stack.hospital(organization)
    await wait_for_rows(stack.home, [hospital], told.last_block)
    block, found = await tables(stack.home, hospital)
    assert block >= told.last_block
    assert all(found.values())


async def test_no_commit_status_is_ever_asked_for(stack: Stack, told: Told) -> None:
    if stack.ledger != "devnet":
        pytest.skip("official peers do not tell whose calls they count, and administrators ask for commit statuses")
    calls = stack.devnet.status()["calls"]
    assert calls["Submit"] > 0
    assert calls.get("CommitStatus", 0) == 0
