"""An endorsed proposal, on its way to the orderers."""

from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_pb2, proposal_response_pb2, transaction_pb2

from hlf.crypto import sha256
from hlf.errors import SubmitError
from hlf.gateway.commit_status import CommitStatusRequest
from hlf.gateway.connections import Connections, Step
from hlf.gateway.octets import Octets
from hlf.gateway.signing import sign_with
from hlf.identity import Creator


class Transaction:
    """A transaction that peers have endorsed, signed by its creator or yet to be (see Proposal)."""

    def __init__(self, message: Any, connections: Connections, creator: Creator | None = None) -> None:
        self._message = message
        self._connections = connections
        self._creator = creator

    @property
    def transaction_id(self) -> str:
        return str(self._message.transaction_id)

    @property
    def channel(self) -> str:
        payload = common_pb2.Payload.FromString(self._message.envelope.payload)
        return str(common_pb2.ChannelHeader.FromString(payload.header.channel_header).channel_id)

    @property
    def bytes(self) -> Octets:
        """A serialized `gateway.PreparedTransaction`."""
        return bytes(self._message.SerializeToString())

    @property
    def digest(self) -> Octets:
        """The SHA-256 that the creator's key has to sign (ECDSA, DER, low-S)."""
        return sha256(self._message.envelope.payload)

    @property
    def result(self) -> Octets:
        """What the chaincode function answered. It counts once the transaction is committed."""
        payload = common_pb2.Payload.FromString(self._message.envelope.payload)
        action = transaction_pb2.Transaction.FromString(payload.data).actions[0]
        endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload).action
        response = proposal_response_pb2.ProposalResponsePayload.FromString(endorsed.proposal_response_payload)
        return bytes(proposal_pb2.ChaincodeAction.FromString(response.extension).response.payload)

    def with_signature(self, signature: Octets) -> "Transaction":
        message = gateway_pb2.PreparedTransaction()
        message.CopyFrom(self._message)
        message.envelope.signature = signature
        return Transaction(message, self._connections, self._creator)

    async def submit(self, *, timeout: float | None = None) -> None:
        """Has the transaction ordered. It is committed, or found invalid, some time after.

        Raises SubmitError; it says whether the transaction may have been received all the same. A call sends it once:
        to another peer only if the first could not be reached, again only if it was turned away unread.
        """
        request = gateway_pb2.SubmitRequest(
            transaction_id=self.transaction_id, channel_id=self.channel, prepared_transaction=self._signed()
        )
        seconds = self._connections.timeouts.submit if timeout is None else timeout
        step = Step(SubmitError, seconds, is_repeatable=False, transaction_id=self.transaction_id)
        await self._connections.call(
            step, lambda peer, seconds_left: peer.gateway.Submit(request, timeout=seconds_left)
        )

    def commit_status_request(self) -> CommitStatusRequest:
        """Asks the gateway itself how the transaction ended. A CommitTracker costs less."""
        payload = common_pb2.Payload.FromString(self._message.envelope.payload)
        creator = common_pb2.SignatureHeader.FromString(payload.header.signature_header).creator
        return CommitStatusRequest.create(self._connections, creator, self._creator, self.channel, self.transaction_id)

    def _signed(self) -> Any:
        envelope = self._message.envelope
        if not envelope.signature:
            envelope.signature = sign_with(self._creator, envelope.payload)
        return envelope
