"""What devnet does not survive: a ledger that was changed or cannot be written, and work that ended unexpectedly."""

import asyncio
from typing import Final

from hlf_devnet.ledger import LedgerCorrupt, LedgerUnwritable

LEDGER_FAULTS: Final = (LedgerCorrupt, LedgerUnwritable)
"""Each is one line naming folder and block."""


class Faults:
    """Whoever notices a fault reports it; the first one ends devnet, so that nothing is served from bad data."""

    def __init__(self) -> None:
        self._first: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def report(self, fault: BaseException) -> None:
        if not self._first.done():
            self._first.set_result(fault)

    def watch(self, task: "asyncio.Task[None]") -> "asyncio.Task[None]":
        """`task` is work that only ends when it is cancelled."""
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self.report(task.exception() or RuntimeError("background work ended by itself"))

    async def first(self) -> BaseException:
        return await asyncio.shield(self._first)
