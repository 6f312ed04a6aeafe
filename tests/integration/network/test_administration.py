"""A consortium's life on devnet, by the commands of an operator, who is killed again and again: the network starts, a
hospital joins, the contract changes, the hospital leaves.

Killed after some steps here, after every step with KILL_EVERY_STEP=1 (`make network-kills`). The same commands run on
official programs in tests/conformance/test_killed_administration.py, and under load in test_administration.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.consortium_files import a_change_by_files
from support.killed_commands import Operator, a_consortiums_life, operating

pytestmark = pytest.mark.timeout(1800)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operator]:
    async with operating(tmp_path_factory.mktemp("consortium")) as operator:
        yield operator


async def test_each_command_that_is_killed_goes_on_where_it_was(operator: Operator, tmp_path: Path) -> None:
    await a_consortiums_life(operator, "devnet", tmp_path)


async def test_bad_input_changes_nothing_and_files_with_enough_signatures_do(
    operator: Operator, tmp_path: Path
) -> None:
    await a_change_by_files(operator, tmp_path)
