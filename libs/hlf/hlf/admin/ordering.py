"""An orderer's client port (`orderer.AtomicBroadcast`): configuration updates go in, configuration blocks come out."""

from types import TracebackType
from typing import Any, Self

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2, ab_pb2_grpc
from google.protobuf.message import Message

from hlf.admin.errors import BroadcastRefused
from hlf.errors import HlfError
from hlf.gateway.endpoint import Endpoint
from hlf.gateway.headers import new_headers
from hlf.identity import Signer


class OrdererClient:
    """One orderer. Use it with `async with`. Whatever fails raises HlfError."""

    def __init__(self, endpoint: Endpoint, *, timeout_seconds: float = 30) -> None:
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        self._channel = self._endpoint.open_channel({})
        self._stub: Any = ab_pb2_grpc.AtomicBroadcastStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close(None)

    async def broadcast(self, envelope: Any) -> None:
        """Sends a signed `common.Envelope` to be ordered. BroadcastRefused unless the orderer takes it.

        That it was taken does not say that it stands in a block yet. A configuration update that was taken may still be
        dropped when another one comes before it.
        """
        answer = await self._only_answer(self._stub.Broadcast, envelope)
        if answer.status != common_pb2.SUCCESS:
            raise BroadcastRefused(answer.status, answer.info)

    async def config_block(self, signer: Signer, channel: str) -> Any:
        """The newest configuration block, a `common.Block`. `signer` must be one of the channel's Readers."""
        newest = await self._block(signer, channel, ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest()))
        metadata = common_pb2.Metadata.FromString(newest.metadata.metadata[common_pb2.SIGNATURES])
        number = common_pb2.OrdererBlockMetadata.FromString(metadata.value).last_config.index
        if number == newest.header.number:
            return newest
        return await self._block(signer, channel, ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=number)))

    async def _block(self, signer: Signer, channel: str, position: Any) -> Any:
        seek = ab_pb2.SeekInfo(start=position, stop=position, behavior=ab_pb2.SeekInfo.BLOCK_UNTIL_READY)
        headers = new_headers(signer, channel, common_pb2.DELIVER_SEEK_INFO)
        header = common_pb2.Header.FromString(headers.serialized)
        payload = common_pb2.Payload(header=header, data=seek.SerializeToString()).SerializeToString()
        envelope = common_pb2.Envelope(payload=payload, signature=signer.sign(payload))
        answer = await self._only_answer(self._stub.Deliver, envelope)
        if answer.WhichOneof("Type") != "block":
            raise BroadcastRefused(answer.status, f"no block of channel {channel} is delivered")
        return answer.block

    async def _only_answer(self, method: Any, envelope: Any) -> Any:
        """The first answer to the only message."""
        call = method(timeout=self._timeout_seconds)
        try:
            await call.write(envelope)
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise HlfError.from_rpc(error) from error
        finally:
            call.cancel()
        if not isinstance(answer, Message):  # gRPC's mark for the end of a stream
            raise HlfError(f"{self._endpoint.address} ended the stream without an answer", retriable=True)
        return answer
