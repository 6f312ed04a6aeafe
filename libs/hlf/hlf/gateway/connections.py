"""Calls to one of several gateway peers: the one in use, until it cannot be reached."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from fabric_protos.gateway import gateway_pb2_grpc
from fabric_protos.peer import events_pb2_grpc

from hlf.backoff import jittered
from hlf.errors import ConnectionFailed, HlfError, is_over_limit
from hlf.gateway.endpoint import Endpoint, Timeouts

_State = grpc.ChannelConnectivity


@dataclass(frozen=True, slots=True)
class Step:
    """One call that a client makes: what it raises, how long it may take in seconds, and whether it may be made again
    when it is not known if the first was received."""

    error: type[HlfError]
    timeout: float
    is_repeatable: bool
    transaction_id: str | None = None


class Peer:
    """An open channel to one endpoint."""

    def __init__(self, endpoint: Endpoint, options: Mapping[str, int | str]) -> None:
        self.endpoint = endpoint
        self.channel = endpoint.open_channel(options)
        self.gateway: Any = gateway_pb2_grpc.GatewayStub(self.channel)
        self.deliver: Any = events_pb2_grpc.DeliverStub(self.channel)

    @property
    def is_connected(self) -> bool:
        return self.channel.get_state() is _State.READY

    async def connect(self, seconds: float) -> bool:
        """Whether there is a connection, now or after at most that time; False at once when an attempt failed."""
        try:
            async with asyncio.timeout(seconds):
                return await self._connected()
        except TimeoutError:
            return False

    async def _connected(self) -> bool:
        while (state := self.channel.get_state(try_to_connect=True)) in (_State.IDLE, _State.CONNECTING):
            await self.channel.wait_for_state_change(state)
        return state is _State.READY


class Connections:
    """The channels of a gateway client. They belong to the event loop that made them."""

    def __init__(self, endpoints: Sequence[Endpoint], timeouts: Timeouts, options: Mapping[str, int | str]) -> None:
        if not endpoints:
            raise ValueError("a gateway needs at least one endpoint")
        self.timeouts = timeouts
        self._peers = [Peer(endpoint, options) for endpoint in endpoints]
        self._current = 0
        self._is_closed = False

    async def call(self, step: Step, invoke: Callable[[Peer, float], Awaitable[Any]]) -> Any:
        """The answer to `invoke(peer, seconds left)`, asked of a peer that can be reached.

        Asked again, after a jittered wait, when the peer turned the call away because it has too many open, and, where
        the step is repeatable, when the connection was lost. Raises `step.error`.
        """
        deadline = _now() + step.timeout
        waits = jittered()
        give_up_at: float | None = None
        while True:
            peer = await self._peer_for(step, min(deadline, give_up_at or deadline))
            try:
                return await invoke(peer, max(deadline - _now(), 0.001))
            except grpc.aio.AioRpcError as error:
                failure = step.error.from_rpc(error, transaction_id=step.transaction_id)
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self.avoid(peer)  # it may hang, and another one not
                if is_connection_lost(peer, error):
                    self.avoid(peer)
                    give_up_at = give_up_at or _now() + self.timeouts.connect
                    is_futile = not step.is_repeatable or _now() > give_up_at
                else:
                    is_futile = not is_over_limit(failure.code, failure.message, failure.details)
                if is_futile or not await _wait(waits, deadline):
                    raise failure from error

    async def ready_peer(self, seconds: float | None = None) -> Peer:
        """The peer in use, or the next that can be reached within `seconds` (default: the connect timeout).

        Raises ConnectionFailed when there is none.
        """
        if self._is_closed:
            raise ConnectionFailed("the gateway is closed")
        peer = self._peers[self._current]
        if peer.is_connected:
            return peer
        return await self._find_peer(_now() + (self.timeouts.connect if seconds is None else seconds))

    def avoid(self, peer: Peer) -> None:
        """Prefer the next peer from now on, if `peer` is the one in use."""
        if self._peers[self._current] is peer:
            self._current = (self._current + 1) % len(self._peers)

    async def close(self) -> None:
        self._is_closed = True
        await asyncio.gather(*(peer.channel.close(None) for peer in self._peers))

    async def _peer_for(self, step: Step, deadline: float) -> Peer:
        try:
            return await self.ready_peer(min(deadline - _now(), self.timeouts.connect))
        except ConnectionFailed as error:
            raise step.error(
                error.message, transaction_id=step.transaction_id, code=grpc.StatusCode.UNAVAILABLE, retriable=True
            ) from error

    async def _find_peer(self, deadline: float) -> Peer:
        waits = jittered()
        while True:
            for tried in range(len(self._peers)):
                position = (self._current + tried) % len(self._peers)
                # A host that swallows packets takes no more than its share of the time.
                share = max(deadline - _now(), 0.001) / (len(self._peers) - tried)
                if await self._peers[position].connect(share):
                    self._current = position
                    return self._peers[position]
            if self._is_closed or not await _wait(waits, deadline):
                addresses = ", ".join(peer.endpoint.address for peer in self._peers)
                raise ConnectionFailed(f"no gateway peer can be reached: {addresses}", retriable=True)


def is_connection_lost(peer: Peer, error: grpc.aio.AioRpcError) -> bool:
    """Whether the call failed for want of a connection, and not by a peer's answer. Both have code UNAVAILABLE."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and not peer.is_connected


async def _wait(waits: Iterator[float], deadline: float) -> bool:
    seconds = next(waits)
    if _now() + seconds >= deadline:
        return False
    await asyncio.sleep(seconds)
    return True


def _now() -> float:
    return asyncio.get_running_loop().time()
