"""Chaincode as a service: a server to which peers connect."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

import grpc

from hlf.chaincode.errors import AddressInUse, ProtocolViolation
from hlf.chaincode.response import Chaincode
from hlf.chaincode.session import Session

logger = logging.getLogger(__name__)

LARGEST_MESSAGE = 100 * 1024 * 1024
"""As the peer's own limit."""

_OPTIONS = (
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    # A peer pings an idle stream every minute (core/config: keepalive.client.interval); gRPC would hang up on it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM. With `client_ca_pem`, a peer must show a certificate of one of these authorities."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)
    client_ca_pem: bytes | None = None


class ChaincodeServer:
    """Serves one chaincode under one package id (`chaincode_id`, label and hash) to any number of peers.

    `address` is ``host:port``; port 0 takes a free one, which `port` tells after `start`. A stop lets transactions at
    work end for up to `stop_grace_seconds`.
    """

    def __init__(
        self,
        chaincode: Chaincode,
        address: str,
        chaincode_id: str,
        *,
        tls: ServerTls | None = None,
        transaction_timeout_seconds: float = 120.0,
        stop_grace_seconds: float = 10.0,
    ) -> None:
        self.port = 0
        self._chaincode = chaincode
        self._address = address
        self._chaincode_id = chaincode_id
        self._tls = tls
        self._transaction_timeout_seconds = transaction_timeout_seconds
        self._stop_grace_seconds = stop_grace_seconds
        self._sessions: set[Session] = set()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Raises `AddressInUse`."""
        server = grpc.aio.server(options=_OPTIONS)
        handlers = {"Connect": grpc.stream_stream_rpc_method_handler(self._connect)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("protos.Chaincode", handlers),))
        self.port = self._bind(server)
        await server.start()
        self._server = server
        logger.info("chaincode %s listens on port %d", self._chaincode_id, self.port)

    async def stop(self) -> None:
        """Takes no more transactions, lets those at work end, and closes. May be called more than once."""
        server, self._server = self._server, None
        if server is None:
            return
        for session in self._sessions:
            session.drain()
        await server.stop(self._stop_grace_seconds)
        logger.info("chaincode %s has stopped", self._chaincode_id)

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            if self._tls is None:
                return server.add_insecure_port(self._address)
            return server.add_secure_port(self._address, _credentials(self._tls))
        except RuntimeError as error:
            raise AddressInUse(f"cannot listen on {self._address}") from error

    async def _connect(self, incoming: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        session = Session(self._chaincode, self._chaincode_id, context.write, self._transaction_timeout_seconds)
        self._sessions.add(session)
        try:
            await session.run(incoming)
        except ProtocolViolation as violation:
            logger.warning("a peer's stream is closed: %s", violation)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(violation))
        finally:
            self._sessions.discard(session)


async def serve(server: ChaincodeServer) -> None:
    """Until SIGTERM or SIGINT; then stops gracefully."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with server:
            await stopped.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.private_key_pem, tls.certificate_pem)],
        root_certificates=tls.client_ca_pem,
        require_client_auth=tls.client_ca_pem is not None,
    )
