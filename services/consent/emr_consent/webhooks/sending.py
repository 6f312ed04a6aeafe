"""One attempt to post an event: over TLS, to an address that was checked, bounded in time and bytes, no redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import httpcore
import httpx

from emr_consent.webhooks.addresses import AddressRefused, NameUnknown, Network, permitted_addresses

ATTEMPT_SECONDS = 10.0
MOST_ADDRESSES = 3
MOST_ANSWERED_BYTES = 16 * 1024
MOST_CONNECTIONS = 32
IDLE_SECONDS = 5.0
GONE = "STATUS_410"
"""By this status a receiver says that it wants no more."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, not to a name that could be another by then."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = tuple(allowed)
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused, NameUnknown or httpcore's errors."""
        failure: Exception = httpcore.ConnectError(host)
        for address in (await permitted_addresses(host, port, self._allowed))[:MOST_ADDRESSES]:
            try:
                return await self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Sender:
    """``allowed`` are networks beside the public addresses, ``ca_file`` certificates beside the well-known ones."""

    def __init__(self, allowed: Sequence[Network] = (), ca_file: Path | None = None) -> None:
        self._allowed = tuple(allowed)
        context = httpx.create_ssl_context(trust_env=False)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MOST_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=CheckedNetwork(allowed),
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        async with self._pool:
            yield self

    async def check(self, url: str) -> None:
        """Raises AddressRefused for a host that could not be posted to now; NameUnknown for one without an address."""
        parsed = httpx.URL(url)
        await permitted_addresses(parsed.raw_host.decode(), parsed.port or 443, self._allowed)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """None once a 2xx came; else a code of what went wrong. What else was answered nobody looks at."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status = await self._status(httpx.URL(url), headers, body)
        except (TimeoutError, httpcore.TimeoutException):
            return "TIMEOUT"
        except AddressRefused:
            return "ADDRESS_REFUSED"
        except NameUnknown:
            return "NAME_UNKNOWN"
        except httpcore.ConnectError as error:
            return "TLS_FAILED" if _is_of_tls(error) else "CONNECTION_FAILED"
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return "CONNECTION_FAILED"
        return None if 200 <= status < 300 else f"STATUS_{status}"

    async def _status(self, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> int:
        target = httpcore.URL(scheme=b"https", host=url.raw_host, port=url.port, target=url.raw_path)
        authority = url.netloc.decode()
        sent = {"host": authority, "content-length": str(len(body)), "content-type": "application/json", **headers}
        async with self._pool.stream("POST", target, headers=list(sent.items()), content=body) as answer:
            left = MOST_ANSWERED_BYTES
            async for part in answer.aiter_stream():
                left -= len(part)
                if left < 0:
                    break  # the connection is closed instead of used again
            return answer.status


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
