"""A consortium's life on devnet, by the commands of an operator: a hospital joins, the contract changes, it leaves.

The same commands run on official programs in tests/conformance/test_administration.py, under load.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from emr_deploy.system import System
from emr_network.home import Home

pytestmark = pytest.mark.timeout(600)


@dataclass
class Network:
    system: System

    async def emr(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and all that was said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "emr_deploy.cli",
            "network",
            *arguments,
            env={**os.environ, "EMR_HOME": str(self.system.home.root)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert "Traceback" not in said.decode()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def definition(self) -> dict[str, Any]:
        code, said = await self.emr("status", "--json")
        assert code == 0, said
        found: dict[str, Any] = json.loads(said)["definition"]
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    system = System(Home(tmp_path_factory.mktemp("consortium")), lambda _: None)
    system.prepare(free_ports=True)
    try:
        await system.network_up()
        yield Network(system)
    finally:
        await asyncio.to_thread(system.down)


async def test_a_newcomer_who_is_a_member_is_refused_and_nothing_is_begun(network: Network) -> None:
    code, said = await network.emr("add-org", "a")
    assert code == 2, said
    assert "share a name" in said
    assert not (network.system.home.root / "underway.yaml").exists()


async def test_a_hospital_joins_the_contract_changes_and_the_hospital_leaves(network: Network, tmp_path: Path) -> None:
    code, said = await network.emr("add-org", "c")
    assert code == 0, said
    joined = await network.definition()
    assert (joined["sequence"], "'HospitalC.peer'" in joined["policy"]) == (2, True)
    assert all(joined["approvals"].values())
    code, said = await network.emr("upgrade-chaincode", "1.1")
    assert code == 0, said
    upgraded = await network.definition()
    assert (upgraded["version"], upgraded["sequence"]) == ("1.1", 3)
    proposal, signature = tmp_path / "remove.json", tmp_path / "a.sig"
    await network.emr("propose-org", "--remove", "HospitalC", "--out", str(proposal))
    await network.emr("sign", str(proposal), "--org", "a", "--out", str(signature))
    code, said = await network.emr("submit", str(proposal), str(signature), "--org", "a")
    assert code == 1
    assert "still to sign: HospitalB, HospitalC" in said
    code, said = await network.emr("remove-org", "c", "--yes")
    assert code == 0, said
    assert (await network.definition())["policy"] == "AND('HospitalA.peer','HospitalB.peer')"
