"""Peers that hang: their connections stay open, and a stream of blocks from one is as silent as where nobody writes.

gRPC's own pings would tell after 110 s: peers hang up on clients that ping more often than once a minute.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

IDLE_SECONDS = 5.0
"""A stream may bring nothing for so long before its peer is asked whether it is still there."""
ANSWER_SECONDS = 5.0
"""So long the peer has for an answer of any kind."""


class Watch:
    """Cancels a stream's call once its peer is silent: ten seconds after the last block at most, and never while the
    peer answers.

    `ask` makes some other call to the same peer, within the seconds that it is given, and raises what gRPC raises. A
    peer that `is_suspected` is asked at once. Belongs to one call; `stop` ends it.
    """

    def __init__(self, call: Any, ask: Callable[[float], Awaitable[None]], *, is_suspected: bool) -> None:
        self.is_silent = False
        self._call = call
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time() - (IDLE_SECONDS if is_suspected else 0)
        self._task = asyncio.create_task(self._run(), name="watch over a stream of blocks")

    def heard(self) -> None:
        """The stream has brought something."""
        self._heard_at = self._loop.time()

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            seconds = self._heard_at + IDLE_SECONDS - self._loop.time()
            if seconds > 0:
                await asyncio.sleep(seconds)
            elif await self._answers():
                self.heard()
            else:
                self.is_silent = True
                self._call.cancel()
                return

    async def _answers(self) -> bool:
        try:
            await self._ask(ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED  # of a lost connection the stream hears itself
        except asyncio.InvalidStateError:
            return True  # as well
        return True
