"""The commands by which an operator changes a network of official programs: killed again and again, and given what they
refuse.

Killed after some steps; after every step with KILL_EVERY_STEP=1 (`make network-kills`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.consortium_files import a_change_by_files
from support.killed_commands import Operator, a_consortiums_life, operating
from support.programs import official_programs

pytestmark = pytest.mark.timeout(1800)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operator]:
    official_programs()
    async with operating(tmp_path_factory.mktemp("consortium")) as operator:
        yield operator


async def test_each_command_that_is_killed_goes_on_where_it_was(operator: Operator, tmp_path: Path) -> None:
    await a_consortiums_life(operator, "fabric", tmp_path)


async def test_bad_input_changes_nothing_and_files_with_enough_signatures_do(
    operator: Operator, tmp_path: Path
) -> None:
    await a_change_by_files(operator, tmp_path)
