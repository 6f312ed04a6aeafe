"""gRPC errors as a Fabric gateway sends them: a status, and one `gateway.ErrorDetail` for each peer that failed."""

from typing import Any, NoReturn, TypeAlias

import grpc
from fabric_protos.gateway import gateway_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2

DETAILS_TRAILER = "grpc-status-details-bin"

ServicerContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class RpcError(Exception):
    """A call that ends in `code`; `details` say which peers (address, MSP id) failed and how."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: gateway_pb2.ErrorDetail) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def error_detail(address: str, msp_id: str, message: str) -> gateway_pb2.ErrorDetail:
    return gateway_pb2.ErrorDetail(address=address, msp_id=msp_id, message=message)


async def abort(context: ServicerContext, error: RpcError) -> NoReturn:
    """Ends the call with `error`. Without details there is no details trailer: that marks a failure of the gateway."""
    if not error.details:
        await context.abort(error.code, error.message)
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in error.details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(error.code, error.message, ((DETAILS_TRAILER, status.SerializeToString()),))
