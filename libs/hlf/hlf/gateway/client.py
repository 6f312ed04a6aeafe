"""The way into a Fabric network: gateway peers, and what can be asked of them."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from fabric_protos.gateway import gateway_pb2
from google.protobuf.message import DecodeError

from hlf.gateway.commit_status import CommitStatus, CommitStatusRequest
from hlf.gateway.connections import Connections
from hlf.gateway.contract import Contract
from hlf.gateway.endpoint import Endpoint, Timeouts
from hlf.gateway.proposal import Proposal
from hlf.gateway.transaction import Transaction
from hlf.identity import Creator


class Gateway:
    """Connections to the gateway peers of one organization. It has no identity: one process can act for many people.

    Use it with `async with`; it belongs to the event loop that entered it. The first endpoint that can be reached is
    used until it cannot be; then the next. `channel_options` are added to gRPC's.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        timeouts: Timeouts | None = None,
        *,
        channel_options: Mapping[str, int | str] | None = None,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._channel_options = dict(channel_options or {})
        self._connections: Connections | None = None
        self.timeouts = timeouts or Timeouts()

    async def __aenter__(self) -> Self:
        if self._connections is not None:
            raise RuntimeError("a gateway is entered once")
        self._connections = Connections(self._endpoints, self.timeouts, self._channel_options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connections.close()

    @property
    def connections(self) -> Connections:
        if self._connections is None:
            raise RuntimeError("a gateway is used within `async with`")
        return self._connections

    async def connect(self, *, timeout: float | None = None) -> None:
        """Makes sure that a peer can be reached, within `timeout` seconds. Raises ConnectionFailed. Steps connect by
        themselves; this is for those who want to know at start."""
        await self.connections.ready_peer(timeout)

    def contract(self, creator: Creator, channel: str, chaincode: str) -> Contract:
        """A `creator` that is no Signer can propose; someone else has to sign then."""
        return Contract(self.connections, creator, channel, chaincode)

    def proposal(self, serialized: bytes, signature: bytes | None = None) -> Proposal:
        """The proposal whose `bytes` these are. ValueError if they are malformed."""
        proposal = Proposal(_parse(gateway_pb2.ProposedTransaction, serialized), self.connections)
        return proposal.with_signature(signature) if signature else proposal

    def transaction(self, serialized: bytes, signature: bytes | None = None) -> Transaction:
        """The transaction whose `bytes` these are. ValueError if they are malformed."""
        transaction = Transaction(_parse(gateway_pb2.PreparedTransaction, serialized), self.connections)
        return transaction.with_signature(signature) if signature else transaction

    def commit_status_request(self, serialized: bytes, signature: bytes | None = None) -> CommitStatusRequest:
        """The request whose `bytes` these are. ValueError if they are malformed."""
        message = _parse(gateway_pb2.SignedCommitStatusRequest, serialized)
        request = CommitStatusRequest(message, self.connections)
        return request.with_signature(signature) if signature else request

    async def commit_status(
        self, creator: Creator, channel: str, transaction_id: str, *, timeout: float | None = None
    ) -> CommitStatus:
        """How a transaction ended, once it is in a block. Raises CommitStatusError. Each such call holds one of the
        peer's places while it waits: a CommitTracker costs less."""
        request = CommitStatusRequest.create(self.connections, creator.serialized, creator, channel, transaction_id)
        return await request.status(timeout=timeout)


def _parse(kind: Any, serialized: bytes) -> Any:
    try:
        return kind.FromString(serialized)
    except DecodeError as error:
        raise ValueError("malformed bytes of a step") from error
