"""A whole system of a benchmark's own, and callers of it; both are gone afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from emr_deploy.callers import Callers
from emr_deploy.system import System
from emr_network.home import Home


@asynccontextmanager
async def whole_system() -> AsyncIterator[tuple[System, Callers]]:
    with tempfile.TemporaryDirectory(prefix="emr-bench-", ignore_cleanup_errors=True) as folder:
        system = System(Home(Path(folder)), lambda _: None)
        system.prepare(free_ports=True)
        try:
            print("starting two hospitals …", flush=True)
            await system.up()
            async with Callers(system.home, system.ports) as callers:
                yield system, callers
        finally:
            await asyncio.to_thread(system.down)
