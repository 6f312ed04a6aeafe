"""Fixtures that every test may take."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from emr_network.topology import Ledger
from hypothesis import settings
from support.programs import official_programs
from support.stack import Stack, running_stack
from support.verified_cases import skipped_for_missing_programs

settings.register_profile("unhurried", deadline=None)  # on top of what hypothesis takes for CI
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ledger", choices=("devnet", "fabric"), default="devnet", help="on which the whole system runs")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = skipped_for_missing_programs(terminalreporter.stats)
    if skipped:
        terminalreporter.write_line(f"{skipped} tests skipped: Fabric's own programs are not there (FABRIC_BIN, PATH)")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """The whole system, for the tests marked `stack`. Kept after a failure: its folder is then printed."""
    ledger: Ledger = request.config.getoption("--ledger")
    if ledger == "fabric":
        official_programs()
    root = Path(tempfile.mkdtemp(prefix="emr-"))
    failed_before = request.session.testsfailed
    async with running_stack(root, ledger) as running:
        yield running
    if request.session.testsfailed == failed_before:
        shutil.rmtree(root)
    else:
        print(f"\nthe system's logs and data are kept in {root}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever takes the stack is marked so, and comes last: a broken unit is found before two dozen processes start."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.stack)
    items.sort(key=lambda item: item.get_closest_marker("stack") is not None)
