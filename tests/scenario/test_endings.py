"""Ending a sharing while it is read: what the order of transactions says, not any clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from emr_deploy.process import Stage
from emr_model.ledger.functions import Function
from support.ledger_access import LedgerAccess
from support.sharing_steps import Steps
from support.stack import Stack

READERS = 32
READS_BEFORE_THE_ENDING = 16
REFUSED = {(403, "ACCESS_NOT_GRANTED"), (410, "RECEIPT_EXPIRED")}
RACED = {(409, "CONFLICT"), (409, "TRANSACTION_INVALID")}
"""The disclosure was endorsed before the ending and ordered after it."""
PATIENCE = {429, 503}

Place = tuple[int, int]
"""Of a transaction: its block, and where in it."""


@dataclass
class Reads:
    """``answered``: transaction ids of the receipts whose reads were answered with content."""

    answered: list[str] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False


async def test_no_read_is_answered_whose_receipt_came_after_the_ending(
    stack: Stack, steps: Steps, ledger: LedgerAccess
) -> None:
    await steps.share()
    start, reads = stack.height, Reads()
    readers = [asyncio.create_task(_read_until_refused(steps, reads)) for _ in range(READERS)]
    try:
        await asyncio.wait_for(reads.enough.wait(), 120)
        ended = (await steps.remove()).required()
        reads.is_over = True
        await asyncio.wait_for(asyncio.gather(*readers), 120)
    finally:
        for reader in readers:
            reader.cancel()
    found = await ledger.transactions("b", start)
    places: dict[str, Place] = {name: (block, one.index) for name, (block, one) in found.items()}
    ending = places[ended["transactionId"]]
    assert found[ended["transactionId"]][1].is_valid
    assert len(reads.answered) >= READS_BEFORE_THE_ENDING
    assert all(places[receipt] < ending for receipt in reads.answered)
    disclosed = [name for name, (_, one) in found.items() if one.is_valid and _is_disclosure(steps, one.args)]
    assert set(reads.answered) <= set(disclosed)
    assert all(places[name] < ending for name in disclosed)


def _is_disclosure(steps: Steps, arguments: tuple[bytes, ...]) -> bool:
    wanted = (Function.GET_SHARED_EMR.wire_name.encode(), b"HospitalA", steps.patient.patient_id.encode())
    return arguments[:3] == wanted


async def _read_until_refused(steps: Steps, reads: Reads) -> None:
    """A read that began when the ending had been answered is refused at once."""
    while True:
        began_after_it = reads.is_over
        disclosed = await steps.disclose()
        if disclosed.status in PATIENCE:
            await asyncio.sleep(0.1)
            continue
        if disclosed.status != 201:
            told = (disclosed.status, str(disclosed.code))
            assert told in REFUSED or (told in RACED and not began_after_it)
            if told in REFUSED:
                return
            continue
        assert not began_after_it
        answer = await steps.shared_answer(disclosed.body["receipt"])
        if answer.status_code == 200:
            reads.answered.append(disclosed.body["transactionId"])
            if len(reads.answered) >= READS_BEFORE_THE_ENDING:
                reads.enough.set()
        elif answer.status_code not in PATIENCE:
            assert (answer.status_code, answer.json()["code"]) in REFUSED


async def test_an_ending_commits_while_nothing_of_the_other_hospital_runs(
    stack: Stack, steps: Steps, ledger: LedgerAccess
) -> None:
    """B's peer is down, and its chaincode, services, relay, projector and sharer do not move. Whoever writes anything
    else is told who is missing.
    """
    await steps.share()
    receipt = await steps.receipt()
    of_b = [one.name for one in stack.system.processes if one.organization == "b" and one.stage is Stage.SERVICES]
    async with stack.peer_stopped("b"), stack.hanging("chaincode-b", *of_b):
        refused = await steps.post_note("Seen today.")
        assert (refused.status, refused.body["hospital"]) == (503, "HospitalB")
        ended = (await steps.remove()).required()

    async def is_back() -> bool:
        return (await steps.disclose()).status not in PATIENCE

    await stack.until(is_back, "B's services reach their peer again")
    _, transaction = (await ledger.transactions("a", ended["block"]))[ended["transactionId"]]
    assert transaction.is_valid
    assert {one.msp_id for one in transaction.endorsers} == {stack.msp_id("a")}
    assert (await steps.disclose()).code == "ACCESS_NOT_GRANTED"
    late = await steps.shared_answer(receipt)
    assert (late.status_code, late.json()["code"]) == (410, "RECEIPT_EXPIRED")
