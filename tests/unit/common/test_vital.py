"""Work that takes its process with it."""

from __future__ import annotations

import asyncio
import signal

import pytest
from emr_common.vital import vital


async def test_a_process_whose_work_ended_is_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("emr_common.vital.os.kill", lambda pid, number: killed.append((pid, number)))

    async def work() -> None:
        raise ValueError("unforeseen")

    async with vital(work(), "work"):
        await asyncio.sleep(0.01)
    assert [number for _, number in killed] == [signal.SIGTERM]


async def test_work_that_is_left_behind_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emr_common.vital.os.kill", lambda *_: pytest.fail("the process must go on"))
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with vital(work(), "work"):
        await asyncio.sleep(0.01)
    assert ended.is_set()
