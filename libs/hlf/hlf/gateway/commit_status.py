"""Asking the gateway how a transaction ended."""

from dataclasses import dataclass
from typing import Any

from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import transaction_pb2

from hlf.crypto import sha256
from hlf.errors import CommitStatusError, validation_name
from hlf.gateway.connections import Connections, Step
from hlf.gateway.octets import Octets
from hlf.gateway.signing import sign_with
from hlf.identity import Creator


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """How a transaction ended, and in which block."""

    transaction_id: str
    block_number: int
    validation_code: int

    @property
    def validation_name(self) -> str:
        return validation_name(self.validation_code)

    @property
    def is_valid(self) -> bool:
        return self.validation_code == int(transaction_pb2.VALID)


class CommitStatusRequest:
    """A question about one transaction, signed by whoever asks or yet to be (see Proposal)."""

    def __init__(self, message: Any, connections: Connections, creator: Creator | None = None) -> None:
        self._message = message
        self._connections = connections
        self._creator = creator

    @classmethod
    def create(
        cls, connections: Connections, serialized: bytes, creator: Creator | None, channel: str, transaction_id: str
    ) -> "CommitStatusRequest":
        request = gateway_pb2.CommitStatusRequest(
            transaction_id=transaction_id, channel_id=channel, identity=serialized
        )
        message = gateway_pb2.SignedCommitStatusRequest(request=request.SerializeToString())
        return cls(message, connections, creator)

    @property
    def transaction_id(self) -> str:
        return str(gateway_pb2.CommitStatusRequest.FromString(self._message.request).transaction_id)

    @property
    def bytes(self) -> Octets:
        """A serialized `gateway.SignedCommitStatusRequest`."""
        return bytes(self._message.SerializeToString())

    @property
    def digest(self) -> Octets:
        """The SHA-256 that the asking key has to sign (ECDSA, DER, low-S)."""
        return sha256(self._message.request)

    def with_signature(self, signature: Octets) -> "CommitStatusRequest":
        message = gateway_pb2.SignedCommitStatusRequest(request=self._message.request, signature=signature)
        return CommitStatusRequest(message, self._connections, self._creator)

    async def status(self, *, timeout: float | None = None) -> CommitStatus:
        """Waits until the transaction is in a block. Raises CommitStatusError, with DEADLINE_EXCEEDED if it is not:
        a peer knows no transaction that will never come."""
        if not self._message.signature:
            self._message.signature = sign_with(self._creator, self._message.request)
        seconds = self._connections.timeouts.commit_status if timeout is None else timeout
        step = Step(CommitStatusError, seconds, is_repeatable=True, transaction_id=self.transaction_id)
        response = await self._connections.call(
            step, lambda peer, seconds_left: peer.gateway.CommitStatus(self._message, timeout=seconds_left)
        )
        return CommitStatus(self.transaction_id, int(response.block_number), int(response.result))
