"""What a chaincode process says that it is, asked as a peer asks: by opening the stream on which it registers."""

from __future__ import annotations

from typing import Any

import grpc
from fabric_protos.peer import chaincode_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage

CONNECT = "/protos.Chaincode/Connect"
SECONDS = 10.0


async def served_id(address: str, seconds: float = SECONDS) -> str | None:
    """The package id with which the process at `host:port` registers; None if none answers so within that time."""
    async with grpc.aio.insecure_channel(address) as channel:
        connect: Any = channel.stream_stream(
            CONNECT,
            request_serializer=ChaincodeMessage.SerializeToString,
            response_deserializer=ChaincodeMessage.FromString,
        )
        stream = connect(timeout=seconds)
        try:
            said = await stream.read()
        except grpc.aio.AioRpcError:
            return None
        finally:
            stream.cancel()
    if not isinstance(said, ChaincodeMessage) or said.type != ChaincodeMessage.Type.Value("REGISTER"):
        return None
    return str(chaincode_pb2.ChaincodeID.FromString(said.payload).name)
