"""The messages between a peer and its chaincode that the published Python protobufs lack, and the ones often built."""

from typing import Any, Final, TypeAlias

from fabric_protos.peer import chaincode_shim_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Kind: Final = chaincode_shim_pb2.ChaincodeMessage
"""The message's class, which also names its types."""
ChaincodeMessage: TypeAlias = Any
"""An instance of it, for annotations: the published protobufs are untyped."""

MAX_WRITE_BATCH: Final = 1000
MAX_GET_MULTIPLE: Final = 1000


def _additional_params_class() -> Any:
    """`protos.ChaincodeAdditionalParams` of fabric-protos 0.4 (chaincode_shim.proto)."""
    file = descriptor_pb2.FileDescriptorProto(
        name="chaincode_additional_params.proto", package="protos", syntax="proto3"
    )
    message = file.message_type.add(name="ChaincodeAdditionalParams")
    field = descriptor_pb2.FieldDescriptorProto
    for number, (name, kind) in enumerate(
        (
            ("use_write_batch", field.TYPE_BOOL),
            ("max_size_write_batch", field.TYPE_UINT32),
            ("use_get_multiple_keys", field.TYPE_BOOL),
            ("max_size_get_multiple_keys", field.TYPE_UINT32),
        ),
        start=1,
    ):
        message.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    pool: Any = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("protos.ChaincodeAdditionalParams"))


ChaincodeAdditionalParams = _additional_params_class()


def registered() -> ChaincodeMessage:
    return Kind(type=Kind.REGISTERED)


def ready() -> ChaincodeMessage:
    """READY, offering write batches and multiple gets as a Fabric 3.1 peer does."""
    params = ChaincodeAdditionalParams(
        use_write_batch=True,
        max_size_write_batch=MAX_WRITE_BATCH,
        use_get_multiple_keys=True,
        max_size_get_multiple_keys=MAX_GET_MULTIPLE,
    )
    return Kind(type=Kind.READY, payload=params.SerializeToString())


def response(request: ChaincodeMessage, payload: bytes) -> ChaincodeMessage:
    return Kind(type=Kind.RESPONSE, payload=payload, txid=request.txid, channel_id=request.channel_id)


def error(request: ChaincodeMessage, text: str) -> ChaincodeMessage:
    return Kind(type=Kind.ERROR, payload=text.encode(), txid=request.txid, channel_id=request.channel_id)
