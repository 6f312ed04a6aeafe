"""What a client asks peers to endorse."""

from collections.abc import Mapping, Sequence
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2

from hlf.crypto import sha256
from hlf.errors import EndorseError, EvaluateError
from hlf.gateway.connections import Connections, Step
from hlf.gateway.contents import ProposedCall, read_proposal
from hlf.gateway.headers import new_headers
from hlf.gateway.octets import Octets
from hlf.gateway.signing import sign_with
from hlf.gateway.transaction import Transaction
from hlf.identity import Creator


class Proposal:
    """A call of a chaincode function, signed or yet to be.

    It signs itself when it is sent, if its creator can. Otherwise hand `bytes` (or `digest`) to whoever holds the key,
    and go on with `with_signature`; `Gateway.proposal(bytes)` makes the proposal anew, in another process if wanted.
    A proposal is sent once: endorsing it twice gives transactions with the same id, of which one can be valid.
    """

    def __init__(self, message: Any, connections: Connections, creator: Creator | None = None) -> None:
        self._message = message
        self._connections = connections
        self._creator = creator

    @classmethod
    def create(
        cls,
        connections: Connections,
        creator: Creator,
        channel: str,
        chaincode: str,
        args: Sequence[str | bytes],
        *,
        transient: Mapping[str, bytes] | None = None,
        endorsing_organizations: Sequence[str] = (),
    ) -> "Proposal":
        headers = new_headers(creator, channel, common_pb2.ENDORSER_TRANSACTION, chaincode)
        proposal = proposal_pb2.Proposal(header=headers.serialized, payload=_payload(chaincode, args, transient or {}))
        message = gateway_pb2.ProposedTransaction(
            transaction_id=headers.transaction_id,
            proposal=proposal_pb2.SignedProposal(proposal_bytes=proposal.SerializeToString()),
            endorsing_organizations=endorsing_organizations,
        )
        return cls(message, connections, creator)

    @property
    def transaction_id(self) -> str:
        return str(self._message.transaction_id)

    @property
    def bytes(self) -> Octets:
        """A serialized `gateway.ProposedTransaction`. Holds the transient data."""
        return bytes(self._message.SerializeToString())

    @property
    def digest(self) -> Octets:
        """The SHA-256 that the creator's key has to sign (ECDSA, DER, low-S)."""
        return sha256(self._message.proposal.proposal_bytes)

    def with_signature(self, signature: Octets) -> "Proposal":
        message = gateway_pb2.ProposedTransaction()
        message.CopyFrom(self._message)
        message.proposal.signature = signature
        return Proposal(message, self._connections, self._creator)

    def with_endorsers(self, organizations: Sequence[str]) -> "Proposal":
        """To be endorsed by others. The signature, if there is one, holds: it does not cover this."""
        message = gateway_pb2.ProposedTransaction()
        message.CopyFrom(self._message)
        del message.endorsing_organizations[:]
        message.endorsing_organizations.extend(organizations)
        return Proposal(message, self._connections, self._creator)

    @property
    def call(self) -> ProposedCall:
        """What is proposed, read from the bytes that are signed. ValueError if these contradict themselves."""
        return read_proposal(self._message.proposal.proposal_bytes)

    async def endorse(self, *, timeout: float | None = None) -> Transaction:
        """Has the proposal simulated and signed by enough peers. Raises EndorseError."""
        request = gateway_pb2.EndorseRequest(
            transaction_id=self.transaction_id,
            channel_id=self._channel,
            proposed_transaction=self._signed(),
            endorsing_organizations=self._message.endorsing_organizations,
        )
        seconds = self._connections.timeouts.endorse if timeout is None else timeout
        step = Step(EndorseError, seconds, is_repeatable=True, transaction_id=self.transaction_id)
        response = await self._connections.call(
            step, lambda peer, seconds_left: peer.gateway.Endorse(request, timeout=seconds_left)
        )
        return self._transaction(response.prepared_transaction)

    async def evaluate(self, *, target_organizations: Sequence[str] = (), timeout: float | None = None) -> Octets:
        """Has the proposal simulated by one peer of `target_organizations` (of any, when there are none), and gives
        the function's answer. Changes nothing. Raises EvaluateError."""
        request = gateway_pb2.EvaluateRequest(
            transaction_id=self.transaction_id,
            channel_id=self._channel,
            proposed_transaction=self._signed(),
            target_organizations=target_organizations,
        )
        seconds = self._connections.timeouts.evaluate if timeout is None else timeout
        step = Step(EvaluateError, seconds, is_repeatable=True, transaction_id=self.transaction_id)
        response = await self._connections.call(
            step, lambda peer, seconds_left: peer.gateway.Evaluate(request, timeout=seconds_left)
        )
        return bytes(response.result.payload)

    @property
    def _proposal(self) -> Any:
        return proposal_pb2.Proposal.FromString(self._message.proposal.proposal_bytes)

    @property
    def _channel(self) -> str:
        header = common_pb2.Header.FromString(self._proposal.header)
        return str(common_pb2.ChannelHeader.FromString(header.channel_header).channel_id)

    def _signed(self) -> Any:
        signed = self._message.proposal
        if not signed.signature:
            signed.signature = sign_with(self._creator, signed.proposal_bytes)
        return signed

    def _transaction(self, envelope: Any) -> Transaction:
        """A peer must not get a signature for anything but what was proposed."""
        payload = common_pb2.Payload.FromString(envelope.payload)
        if payload.header.SerializeToString() != self._proposal.header:
            raise EndorseError("the gateway prepared another transaction", transaction_id=self.transaction_id)
        message = gateway_pb2.PreparedTransaction(transaction_id=self.transaction_id, envelope=envelope)
        return Transaction(message, self._connections, self._creator)


def _payload(chaincode: str, args: Sequence[str | bytes], transient: Mapping[str, bytes]) -> bytes:
    spec = chaincode_pb2.ChaincodeSpec(
        type=chaincode_pb2.ChaincodeSpec.GOLANG,
        chaincode_id=chaincode_pb2.ChaincodeID(name=chaincode),
        input=chaincode_pb2.ChaincodeInput(args=[arg.encode() if isinstance(arg, str) else arg for arg in args]),
    )
    invocation = chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=spec)
    payload = proposal_pb2.ChaincodeProposalPayload(input=invocation.SerializeToString(), TransientMap=dict(transient))
    return bytes(payload.SerializeToString())
