"""A hospital joins a whole running system, with databases, topics and services, while notes are written at the others.

Takes minutes: `make joining`, on devnet or with `--ledger fabric`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.programs import official_programs
from support.sharing_steps import enrol_cast
from support.stack import Actor, Stack, running_stack

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("JOINING"), reason="a long case: make joining"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    ledger = request.config.getoption("--ledger")
    if ledger == "fabric":
        official_programs()
    root: Path = tmp_path_factory.mktemp("joining")
    async with running_stack(root, ledger) as running:
        yield running


async def test_a_hospital_joins_with_everything_and_has_every_block_since_the_first(system: Stack) -> None:
    cast = await enrol_cast(system)
    physicians = {"a": cast.physician, "b": cast.other_physician}
    healthcenters = {"a": cast.healthcenter, "b": await system.staff("b", "healthcenter")}
    patients = [await system.patient(healthcenters[name]) for name in ("a", "b", "a", "b")]
    before = system.height
    async with system.load(patients, physicians) as answers:
        started = time.monotonic()
        said = await system.emr("network", "add-org", "c")
        print(f"c took part {time.monotonic() - started:.1f} s after add-org began")
    assert "ready  rows of c as of block" in said
    statuses = Counter(one.status for one in answers)
    print(f"{len(answers)} notes meanwhile: {dict(statuses)}; blocks {before} to {system.height}")
    assert set(statuses) == {201}
    await system.wait_for_rows("c")
    await _require_the_same_emrs(system)
    await _require_that_it_takes_part(system, patients[0], physicians["a"])


async def _require_the_same_emrs(system: Stack) -> None:
    """Whoever joined late knows every EMR and hospital of the channel, in the state that the others know."""
    query = "select emr_id, owner_msp, version, visits, life from care.emr order by emr_id"
    rows = {name: await system.sql(name, query) for name in ("a", "b", "c")}
    assert rows["c"]
    assert rows["a"] == rows["b"] == rows["c"]
    hospitals = await system.sql("c", "select msp_id from care.organization order by 1")
    assert [row["msp_id"] for row in hospitals] == ["HospitalA", "HospitalB", "HospitalC"]


async def _require_that_it_takes_part(system: Stack, known: Actor, physician: Actor) -> None:
    """It admits a patient of its own, and endorses what the others write from now on."""
    own = await system.patient(await system.staff("c", "healthcenter"))
    noted = await system.add_note(await system.staff("c", "physician"), own.emr_id)
    assert noted["version"] == 1
    async with system.peer_stopped("c"):
        path = f"/emrs/{known.emr_id}/notes"
        refused = await system.call(physician, "records", "POST", path, {"text": "Without C."})
        assert (refused.status, refused.body["hospital"]) == (503, "HospitalC")
    await system.wait_for_rows("c")
