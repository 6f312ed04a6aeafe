"""Both hospitals' staff and the way to the ledger itself, once a session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from support.ledger_access import LedgerAccess, ledger_access
from support.sharing_steps import Cast, enrol_cast
from support.stack import Stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ledger(stack: Stack) -> AsyncIterator[LedgerAccess]:
    async with ledger_access(stack) as access:
        yield access


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cast(stack: Stack) -> Cast:
    return await enrol_cast(stack)
