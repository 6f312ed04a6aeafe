"""Everything survives a stop and a start of the whole system. Comes last of the scenarios: it takes everything down."""

from __future__ import annotations

import asyncio

from emr_deploy.status import status_of
from support.sharing_steps import Steps
from support.stack import Stack


async def test_a_restart_keeps_heights_rows_and_what_was_shared(stack: Stack, steps: Steps) -> None:
    await steps.share()
    before = await steps.read_shared()
    for organization in ("a", "b"):
        await stack.wait_for_rows(organization)
    height = stack.height
    assert await asyncio.to_thread(stack.system.down)
    await stack.system.up()
    report = await status_of(stack.system)
    assert report.is_healthy
    assert [(one.height, one.lag) for one in report.hospitals] == [(height, 0), (height, 0)]
    after = await steps.read_shared()
    assert (after["sha256"], after["notes"]) == (before["sha256"], before["notes"])
    assert (await steps.note("After the restart."))["version"] == 2
