"""Fixtures that every test may take."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.stack import Stack, running_stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """The whole system, for the tests marked `stack`. Kept after a failure: its folder is then printed."""
    root = Path(tempfile.mkdtemp(prefix="emr-"))
    failed_before = request.session.testsfailed
    async with running_stack(root) as running:
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
