"""Runs the typesetter: one document at a time, within a bound of time."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson
import structlog
from emr_common.problems import Problem
from emr_model.ledger.codes import Code

SECONDS = 20.0
WAITING = 8

log = structlog.get_logger(__name__)


class Typesetter:
    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def pdf(self, document: dict[str, Any]) -> bytes:
        """The document as a PDF. Raises Problem OVERLOADED when too many wait or it takes too long."""
        if self._waiting >= WAITING:
            raise Problem(Code.OVERLOADED)
        self._waiting += 1
        try:
            async with self._turn:
                return await _typeset(orjson.dumps(document))
        finally:
            self._waiting -= 1


async def _typeset(document: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "emr_records.readable.typeset",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it would quote what it cannot typeset
        env={},
    )
    try:
        async with asyncio.timeout(SECONDS):
            pdf, _ = await process.communicate(document)
    except TimeoutError:
        raise Problem(Code.OVERLOADED) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        log.error("typesetter_failed", exit_code=process.returncode)
        raise Problem(Code.INTERNAL_ERROR)
    return pdf
