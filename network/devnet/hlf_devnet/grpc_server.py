"""One peer's TLS port: its gRPC services with Fabric's concurrency limits, and a count of every call."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from hlf_devnet.faults import LEDGER_FAULTS, Faults
from hlf_devnet.statuses import RpcError, ServicerContext, abort

SERVER_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second devnet on the port must fail, not share it
    ("grpc.max_send_message_length", 100 * 1024 * 1024),
    ("grpc.max_receive_message_length", 100 * 1024 * 1024),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 60_000),  # Fabric's peer.keepalive.minInterval
    ("grpc.keepalive_permit_without_calls", 1),
)

_UNREADABLE: Final = RpcError(grpc.StatusCode.INTERNAL, "grpc: failed to unmarshal the received message")
_BROKEN: Final = RpcError(grpc.StatusCode.UNAVAILABLE, "the peer's ledger is damaged or cannot be written")

Behavior = Callable[[Any, ServicerContext], Any]
Calls = Counter[str]
"""How often each method was called, by its name."""


class AddressInUse(Exception):
    """The port cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Method:
    """`request`: the message's class. What a method returns or yields may be serialized already."""

    request: Any
    behavior: Behavior
    streams_requests: bool = False
    streams_responses: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """`limit`: how many calls may be open at once, 0 for any number."""

    name: str
    methods: Mapping[str, Method]
    limit: int


def create(
    address: str, certificate_and_key: tuple[bytes, bytes], services: list[Service], calls: Calls, faults: Faults
) -> grpc.aio.Server:
    """A bound server that is not started yet; raises AddressInUse. Certificate and key are PEM."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers([_handlers(service, calls, faults) for service in services])
    certificate, key = certificate_and_key
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    try:
        server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise AddressInUse(f"cannot listen on {address}") from error
    return server


def _handlers(service: Service, calls: Calls, faults: Faults) -> Any:
    limiter = _Limiter(service.name, service.limit)
    calls.update(dict.fromkeys(service.methods, 0))
    handlers = {name: _handler(name, method, limiter, calls, faults) for name, method in service.methods.items()}
    return grpc.method_handlers_generic_handler(service.name, handlers)


class _Limiter:
    def __init__(self, service: str, limit: int) -> None:
        self._service = service
        self._limit = limit
        self._open = 0

    async def enter(self, context: ServicerContext) -> None:
        if self._limit and self._open >= self._limit:
            text = f"too many requests for /{self._service}, exceeding concurrency limit ({self._limit})"
            await abort(context, RpcError(grpc.StatusCode.UNKNOWN, text))
        self._open += 1

    def leave(self) -> None:
        self._open -= 1


def _handler(name: str, method: Method, limiter: _Limiter, calls: Calls, faults: Faults) -> Any:
    async def unary(request: Any, context: ServicerContext) -> Any:
        calls[name] += 1
        await limiter.enter(context)
        try:
            answer: Awaitable[Any] = method.behavior(await _parsed(method, request, context), context)
            return await answer
        except LEDGER_FAULTS as fault:
            faults.report(fault)
            await abort(context, _BROKEN)
        finally:
            limiter.leave()

    async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        calls[name] += 1
        await limiter.enter(context)
        try:
            parsed = (
                _each(method, request, context) if method.streams_requests else await _parsed(method, request, context)
            )
            async for answer in method.behavior(parsed, context):
                yield answer
        except LEDGER_FAULTS as fault:
            faults.report(fault)
            await abort(context, _BROKEN)
        finally:
            limiter.leave()

    serializers = {"response_serializer": _serialized}
    if method.streams_requests:
        return grpc.stream_stream_rpc_method_handler(stream, **serializers)
    if method.streams_responses:
        return grpc.unary_stream_rpc_method_handler(stream, **serializers)
    return grpc.unary_unary_rpc_method_handler(unary, **serializers)


async def _parsed(method: Method, request: bytes, context: ServicerContext) -> Any:
    """The request as its message; what is none ends the call as a Go server would end it."""
    try:
        return method.request.FromString(request)
    except DecodeError:
        await abort(context, _UNREADABLE)


async def _each(method: Method, requests: AsyncIterator[bytes], context: ServicerContext) -> AsyncIterator[Any]:
    async for request in requests:
        yield await _parsed(method, request, context)


def _serialized(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())
