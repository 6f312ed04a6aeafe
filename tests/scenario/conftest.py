"""What all scenarios take: the running system's ledger, the hospitals' staff, and a patient whose record is shared."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from support.ledger_access import LedgerAccess, ledger_access
from support.sharing_steps import Cast, Steps, enrol_cast
from support.stack import Stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cast(stack: Stack) -> Cast:
    """Enrolled once."""
    return await enrol_cast(stack)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ledger(stack: Stack) -> AsyncIterator[LedgerAccess]:
    async with ledger_access(stack) as access:
        yield access


@pytest_asyncio.fixture
async def steps(stack: Stack, cast: Cast) -> Steps:
    """A new patient of A with one note; nothing is approved yet."""
    return await Steps.begin(stack, cast)
