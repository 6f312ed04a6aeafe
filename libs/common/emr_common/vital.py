"""Work that a process does beside answering HTTP, and without which it had better end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

log = structlog.get_logger(__name__)


@asynccontextmanager
async def vital(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Runs ``work`` until the context is left. If it ends before, the process is asked to end: its supervisor starts
    it again.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_end_process)
    try:
        yield
    finally:
        task.remove_done_callback(_end_process)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _end_process(task: asyncio.Task[None]) -> None:
    failure = None if task.cancelled() else task.exception()
    log.critical("vital_work_ended", work=task.get_name(), exc_info=failure)
    os.kill(os.getpid(), signal.SIGTERM)
