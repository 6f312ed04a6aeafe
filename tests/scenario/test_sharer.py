"""The sharer: what it does by itself, and that nothing is lost while it is away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from emr_model.ledger.answers import PurgeableList
from emr_model.ledger.functions import Function
from emr_model.ledger.values import Event
from support.ledger_access import CHAINCODE, CHANNEL, LedgerAccess
from support.sharing_steps import Steps
from support.stack import WAIT_SECONDS, Stack


async def test_what_was_approved_while_the_sharer_was_down_is_shared_when_it_is_back(steps: Steps) -> None:
    async with steps.stack.stopped("sharer-a"):
        (await steps.approve_as_owner()).required()
        (await steps.approve_as_patient()).required()
        assert (await steps.sharing())["state"] == "approved"
        pending = await steps.disclose()
        assert (pending.status, pending.code) == (409, "SNAPSHOT_PENDING")
    await steps.until_shared()
    assert (await steps.read_shared())["version"] == steps.version


@pytest.mark.parametrize("moment", ["at the second approval", "while it hands the snapshot in"])
async def test_a_sharer_that_is_killed_shares_once(steps: Steps, ledger: LedgerAccess, moment: str) -> None:
    stack, before = steps.stack, steps.stack.height
    (await steps.approve_as_owner()).required()
    handed_in = asyncio.create_task(_is_handed_in(stack, await _handed_in(stack)))
    (await steps.approve_as_patient()).required()
    if moment != "at the second approval":
        await asyncio.wait_for(handed_in, WAIT_SECONDS)
    handed_in.cancel()
    await stack.kill("sharer-a")
    await steps.until_shared()
    await stack.ready("sharer-a")
    await stack.wait_for_rows("a")
    rows = await stack.sql(
        "a", "select number, snapshot_version from care.sharing where emr_id = $1", steps.patient.emr_id
    )
    assert [(row["number"], row["snapshot_version"]) for row in rows] == [(1, steps.version)]
    shared = Event.SNAPSHOT_SHARED.value.encode()
    transactions = (await ledger.transactions("a", before)).values()
    written = [write for _, one in transactions if one.is_valid for write in one.writes]
    assert len([one for one in written if steps.patient.emr_id in one.key and shared in one.value]) == 1


async def _handed_in(stack: Stack) -> int:
    query = "select count(*) as number from hospital.transaction where function = 'ShareEmrSnapshot'"
    return int((await stack.sql("a", query))[0]["number"])


async def _is_handed_in(stack: Stack, before: int) -> None:
    """Until the sharer has noted a transaction, which is just before it submits it."""
    while await _handed_in(stack) == before:
        await asyncio.sleep(0)


async def test_a_sharing_ends_by_itself_when_its_time_has_come(steps: Steps) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=6)
    (await steps.approve_as_owner()).required()
    path = f"/me/sharings/{steps.other_msp}/approval"
    body = {"version": steps.version, "expiresAt": expires_at.isoformat()}
    (await steps.stack.call(steps.patient, "consent", "PUT", path, body)).required()
    await steps.until_shared()

    async def ended() -> bool:
        sharing = await steps.sharing()
        return bool(sharing["state"] == "ended" and sharing["end"]["why"] == "expired")

    await steps.stack.until(ended, "the sharing is ended by the sharer")
    refused = await steps.disclose()
    assert (refused.status, refused.code) == (403, "ACCESS_NOT_GRANTED")


async def test_the_recipient_purges_its_snapshot_after_the_sharing_has_ended(
    steps: Steps, ledger: LedgerAccess
) -> None:
    await steps.share()
    (await steps.remove()).required()

    contract = ledger.gateways["b"].contract(ledger.service("b"), CHANNEL, CHAINCODE)

    async def purged() -> bool:
        name = Function.LIST_PURGEABLE_SNAPSHOTS.wire_name
        answer = await contract.evaluate(name, steps.patient.emr_id, target_organizations=[steps.other_msp])
        return not PurgeableList.from_json(answer).purgeable

    await steps.stack.until(purged, "B's sharer purges what it received", seconds=60)

    async def nothing_is_due() -> bool:
        address = steps.stack.system.ports.address("sharer-b")
        async with httpx.AsyncClient(trust_env=False) as http:
            metrics = (await http.get(f"http://{address}/metrics")).text
        return "\nemr_sharer_purge_due_seconds 0.0\n" in metrics

    await steps.stack.until(nothing_is_due, "no purge is due", seconds=60)
