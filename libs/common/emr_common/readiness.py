"""Whether a process could do its work right now: each check really does a little of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

Check = Callable[[], Awaitable[bool]]

CHECK_SECONDS = 3.0
REMEMBER_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Readiness:
    """Named checks, run together; an answer is good for a second, so that probing costs next to nothing."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._known: dict[str, bool] = {}
        self._checked_at = float("-inf")
        self._checking = asyncio.Lock()

    async def check(self) -> Mapping[str, bool]:
        async with self._checking:
            if time.monotonic() - self._checked_at > REMEMBER_SECONDS:
                results = await asyncio.gather(*(_holds(name, check) for name, check in self._checks.items()))
                self._known = dict(zip(self._checks, results, strict=True))
                self._checked_at = time.monotonic()
            return self._known


async def _holds(name: str, check: Check) -> bool:
    """A check that raises, or takes over three seconds, does not hold."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except Exception as error:
        log.warning("readiness_check_failed", check=name, exc_info=error)
        return False


def database_answers(engine: AsyncEngine) -> Check:
    async def answers() -> bool:
        async with engine.connect() as connection:
            return bool(await connection.scalar(sa.text("select 1")))

    return answers
