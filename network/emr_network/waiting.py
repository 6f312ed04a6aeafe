"""Steps that fail while a network that has just started, or changed, finds itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hlf.errors import HlfError

START_SECONDS = 60.0
POLL_SECONDS = 0.3

T = TypeVar("T")


async def eventually(
    step: Callable[[], Awaitable[T]],
    is_passing: Callable[[HlfError], bool] = lambda failure: failure.retriable,
    *,
    seconds: float = START_SECONDS,
) -> T:
    """What `step` gives, tried again while it fails for a reason that passes: a network that has just started has not
    found itself yet."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            return await step()
        except HlfError as failure:
            if not is_passing(failure) or time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(POLL_SECONDS)
