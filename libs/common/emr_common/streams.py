"""A faust application inside a process that does more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog

STEP_SECONDS = 20.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Runs a ``faust.App`` until it is left, also when that happens while it starts.

    faust that is cancelled or stopped while it starts never ends: so it starts to the end first. Each step is given a
    bounded time. What was not acknowledged comes again.
    """
    starting = asyncio.create_task(app.start())
    try:
        await asyncio.wait([starting])
        starting.result()
        yield
    finally:
        await asyncio.wait([starting], timeout=STEP_SECONDS)
        stopping = asyncio.create_task(app.stop())
        await asyncio.wait([stopping], timeout=STEP_SECONDS)
        if not stopping.done():
            log.warning("stream_not_stopped")
