"""A backup of a whole running system becomes a whole running system elsewhere, and life goes on there.

Takes minutes: `make restoring`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from emr_deploy.sealed_backup import back_up_sealed, make_key, restore_sealed
from emr_deploy.system import System
from emr_network.home import Home
from support.sharing_steps import Steps, enrol_cast
from support.stack import running_again, running_stack

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("RESTORING"), reason="a long case: make restoring"),
]


async def test_a_backup_becomes_a_system_in_which_notes_and_reads_go_on(tmp_path: Path) -> None:
    key, folder = tmp_path / "backup.key", tmp_path / "backup"
    make_key(key)
    async with running_stack(tmp_path / "first") as first:
        cast = await enrol_cast(first)
        steps = await Steps.begin(first, cast, notes=2)
        await steps.share()
        backup = asyncio.create_task(back_up_sealed(first.system, folder, key.with_name("backup.key.pub")))
        while not backup.done():
            await steps.note("While the backup is made.")
        await backup
        await first.wait_for_rows("a")
    home = Home(tmp_path / "second")
    await restore_sealed(System(home, lambda _: None), folder, key, free_ports=True)
    async with running_again(home.root) as second:
        for organization in ("a", "b"):
            await second.wait_for_rows(organization)
            said = await second.emr("indexer", "verify", "--org", organization)
            assert "found: 0" in said, said
        restored = Steps(second, cast, steps.patient)
        restored.version = (await restored.read())["version"]
        assert 2 <= restored.version <= steps.version  # the last may have come after the backup
        await restored.note("After the restore.")
        assert (await restored.read())["version"] == restored.version
        assert (await restored.read_shared())["version"] == 2
        await restored.share()
        assert (await restored.read_shared())["version"] == restored.version
