"""The peer's end of a chaincode's stream, played by the test: it says what a peer would and keeps what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.identity import Identity

CHANNEL = "care"
Type = ChaincodeMessage.Type


def identity(attributes: Mapping[str, str] | None = None) -> Identity:
    authority = CertificateAuthority.create("ca", "Org")
    certificate = authority.issue("somebody", new_private_key().public_key(), attributes=attributes)
    return Identity("Org", certificate_to_pem(certificate))


def signed_proposal(
    creator: Identity, *, transient: Mapping[str, bytes] | None = None, seconds: int = 1_700_000_000, nanos: int = 0
) -> Any:
    channel_header = common_pb2.ChannelHeader(type=common_pb2.ENDORSER_TRANSACTION, channel_id=CHANNEL)
    channel_header.timestamp.seconds, channel_header.timestamp.nanos = seconds, nanos
    signature_header = common_pb2.SignatureHeader(creator=creator.serialized, nonce=b"nonce")
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(), signature_header=signature_header.SerializeToString()
    )
    payload = proposal_pb2.ChaincodeProposalPayload(TransientMap=dict(transient or {}))
    proposal = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload.SerializeToString())
    return proposal_pb2.SignedProposal(proposal_bytes=proposal.SerializeToString())


class ChaincodePeer:
    """Answers state requests with `answer`; sends transactions by `transact`. `ended` is done when the stream is."""

    def __init__(self, stream: Any) -> None:
        self.requests: list[Any] = []
        self.answer: Callable[[Any], bytes | Exception] = lambda _: b""
        self._stream = stream
        self._sending = asyncio.Lock()
        self._ends: dict[str, asyncio.Future[Any]] = {}
        self.registered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.echoes = 0
        self.ended: asyncio.Task[None] = asyncio.create_task(self._run())

    async def send(self, message: Any) -> None:
        async with self._sending:
            await self._stream.write(message)

    async def register(self, offers: Mapping[str, Any] | None = None) -> str:
        """The chaincode id that it registered with."""
        name = await asyncio.wait_for(asyncio.shield(self.registered), 5)
        await self.send(ChaincodeMessage(type=Type.Value("REGISTERED")))
        payload = chaincode_pb2.ChaincodeAdditionalParams(**(offers or {})).SerializeToString()
        await self.send(ChaincodeMessage(type=Type.Value("READY"), payload=payload))
        return name

    def transaction(
        self, transaction_id: str, *arguments: bytes, proposal: Any = None, kind: str = "TRANSACTION"
    ) -> Any:
        call = chaincode_pb2.ChaincodeInput(args=arguments)
        return ChaincodeMessage(
            type=Type.Value(kind),
            payload=call.SerializeToString(),
            txid=transaction_id,
            channel_id=CHANNEL,
            proposal=proposal,
        )

    async def transact(self, transaction_id: str, *arguments: bytes, **options: Any) -> Any:
        """COMPLETED or ERROR."""
        return await self.deliver(self.transaction(transaction_id, *arguments, **options))

    async def deliver(self, message: Any) -> Any:
        self._ends[message.txid] = asyncio.get_running_loop().create_future()
        await self.send(message)
        return await asyncio.wait_for(self._ends[message.txid], 5)

    async def respond(self, transaction_id: str, *arguments: bytes, **options: Any) -> Any:
        """What the chaincode answered."""
        message = await self.transact(transaction_id, *arguments, **options)
        assert message.type == Type.Value("COMPLETED"), message.payload
        return proposal_response_pb2.Response.FromString(message.payload)

    async def _run(self) -> None:
        async for message in self._stream:
            if message.type == Type.Value("REGISTER"):
                self.registered.set_result(chaincode_pb2.ChaincodeID.FromString(message.payload).name)
            elif message.type == Type.Value("KEEPALIVE"):
                self.echoes += 1
            elif message.type in (Type.Value("COMPLETED"), Type.Value("ERROR")):
                self._ends[message.txid].set_result(message)
            else:
                self.requests.append(message)
                await self._answer(message)

    async def _answer(self, message: Any) -> None:
        answer = self.answer(message)
        kind = "ERROR" if isinstance(answer, Exception) else "RESPONSE"
        payload = str(answer).encode() if isinstance(answer, Exception) else answer
        await self.send(
            ChaincodeMessage(type=Type.Value(kind), payload=payload, txid=message.txid, channel_id=message.channel_id)
        )


@asynccontextmanager
async def connected(port: int, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[ChaincodePeer]:
    address = f"localhost:{port}"
    channel = grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
    async with channel:
        connect: Any = channel.stream_stream(
            "/protos.Chaincode/Connect",
            request_serializer=ChaincodeMessage.SerializeToString,
            response_deserializer=ChaincodeMessage.FromString,
        )
        stream = connect()
        peer = ChaincodePeer(stream)
        try:
            yield peer
        finally:
            stream.cancel()
            await asyncio.gather(peer.ended, return_exceptions=True)
