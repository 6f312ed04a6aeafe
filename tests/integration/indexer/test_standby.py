"""A second relay beside the first, which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
from support.ports import free_port
from support.stack import Stack


async def test_a_standby_takes_over_from_a_relay_that_is_killed(stack: Stack, tmp_path: Path) -> None:
    program = stack.process("relay-a").program
    port = free_port()
    environment = {**os.environ, **program.environment, "EMR_HTTP__PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        standby = subprocess.Popen(program.command, env=environment, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            async def is_active() -> bool:
                return "emr_relay_active 1.0" in (await client.get("/metrics")).text

            async def stands_by() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await stack.until(stands_by, "the standby is there", 90)
            assert not await is_active()
            os.kill(stack.system.supervisor.process("relay-a").pid, signal.SIGKILL)
            killed = time.monotonic()
            await stack.until(is_active, "the standby leads")
            print(f"took over after {time.monotonic() - killed:.2f} s")
            await stack.staff("a", "physician")
            await stack.wait_for_rows("a")
    finally:
        standby.terminate()
        standby.wait(timeout=30)
    await stack.ready("relay-a")
    await stack.wait_for_rows("a")
