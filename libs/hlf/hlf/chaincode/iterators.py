"""Results of a query, fetched from the peer batch by batch."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Self, TypeVar

from hlf.chaincode import requests
from hlf.chaincode.requests import Request

Result = TypeVar("Result")


class ResultIterator(AsyncIterator[Result], Generic[Result]):
    """``async for`` over a query's results. Nothing is asked before the first step.

    The peer frees a query when it is read to its end or the transaction ends. Use ``async with``, or call `aclose`,
    to free earlier one that is left half-way.
    """

    def __init__(
        self, send: Callable[[Request], Awaitable[bytes]], query: Request, read: Callable[[Any], Result]
    ) -> None:
        self._send = send
        self._next_request: Request | None = query
        self._read = read
        self._open_query = ""
        self._fetched: deque[Any] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        while not self._fetched:
            if self._next_request is None:
                raise StopAsyncIteration
            await self._fetch(self._next_request)
        return self._read(self._fetched.popleft())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._fetched.clear()
        self._next_request = None
        if self._open_query:
            await self._send(requests.close_query(self._open_query))
            self._open_query = ""

    async def _fetch(self, request: Request) -> None:
        response = requests.read_query_response(await self._send(request))
        self._fetched.extend(response.results)
        self._open_query = response.id if response.has_more else ""
        self._next_request = requests.next_results(response.id) if response.has_more else None
