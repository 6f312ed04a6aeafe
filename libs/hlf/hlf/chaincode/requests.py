"""The messages a chaincode sends to its peer, and how answers are read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2, transaction_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage

from hlf.chaincode.errors import ProtocolViolation
from hlf.chaincode.proposal import to_datetime
from hlf.chaincode.response import INTERNAL_ERROR, Response

MessageType = ChaincodeMessage.Type

VALIDATION_PARAMETER: str = transaction_pb2.MetaDataKeys.Name(transaction_pb2.VALIDATION_PARAMETER)


@dataclass(frozen=True, slots=True)
class Request:
    """One state request: the message's type and its payload."""

    type: int
    payload: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return str(MessageType.Name(self.type))


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyModification:
    """One entry of a key's history. `timestamp` is that of the transaction; a deletion has no value."""

    transaction_id: str
    value: bytes = field(repr=False)
    timestamp: datetime
    is_delete: bool


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a query. Give `bookmark` to ask for the next one; empty when there is none."""

    items: tuple[KeyValue, ...]
    bookmark: str


def get_state(key: str, collection: str = "") -> Request:
    return _request("GET_STATE", chaincode_shim_pb2.GetState(key=key, collection=collection))


def get_private_data_hash(key: str, collection: str) -> Request:
    return _request("GET_PRIVATE_DATA_HASH", chaincode_shim_pb2.GetState(key=key, collection=collection))


def get_states(keys: Sequence[str], collection: str = "") -> Request:
    return _request("GET_STATE_MULTIPLE", chaincode_shim_pb2.GetStateMultiple(keys=keys, collection=collection))


def get_metadata(key: str, collection: str = "") -> Request:
    return _request("GET_STATE_METADATA", chaincode_shim_pb2.GetStateMetadata(key=key, collection=collection))


def get_range(start: str, end: str, collection: str = "", paging: bytes = b"") -> Request:
    message = chaincode_shim_pb2.GetStateByRange(startKey=start, endKey=end, collection=collection, metadata=paging)
    return _request("GET_STATE_BY_RANGE", message)


def get_query_result(query: str, collection: str = "", paging: bytes = b"") -> Request:
    message = chaincode_shim_pb2.GetQueryResult(query=query, collection=collection, metadata=paging)
    return _request("GET_QUERY_RESULT", message)


def get_history(key: str) -> Request:
    return _request("GET_HISTORY_FOR_KEY", chaincode_shim_pb2.GetHistoryForKey(key=key))


def next_results(query_id: str) -> Request:
    return _request("QUERY_STATE_NEXT", chaincode_shim_pb2.QueryStateNext(id=query_id))


def close_query(query_id: str) -> Request:
    return _request("QUERY_STATE_CLOSE", chaincode_shim_pb2.QueryStateClose(id=query_id))


def invoke_chaincode(name: str, arguments: Iterable[bytes], channel: str = "") -> Request:
    message = chaincode_pb2.ChaincodeSpec()
    message.chaincode_id.name = f"{name}/{channel}" if channel else name
    message.input.args.extend(arguments)
    return _request("INVOKE_CHAINCODE", message)


def paging(page_size: int, bookmark: str) -> bytes:
    """`page_size` must be positive: a peer takes 0 for a query without pages, and then sends no bookmark."""
    if not 1 <= page_size < 2**31:
        raise ValueError("a page holds at least one item")
    return bytes(chaincode_shim_pb2.QueryMetadata(pageSize=page_size, bookmark=bookmark).SerializeToString())


def read_metadata(payload: bytes) -> dict[str, bytes]:
    result = chaincode_shim_pb2.StateMetadataResult.FromString(payload)
    return {entry.metakey: entry.value for entry in result.entries}


def read_values(payload: bytes, expected: int) -> list[bytes | None]:
    values = chaincode_shim_pb2.GetStateMultipleResult.FromString(payload).values
    if len(values) != expected:
        raise ProtocolViolation("the peer answered another number of values than it was asked for")
    return [value or None for value in values]


def read_query_response(payload: bytes) -> Any:
    return chaincode_shim_pb2.QueryResponse.FromString(payload)


def read_bookmark(response: Any) -> str:
    return str(chaincode_shim_pb2.QueryResponseMetadata.FromString(response.metadata).bookmark)


def read_key_value(result: Any) -> KeyValue:
    found = kv_query_result_pb2.KV.FromString(result.resultBytes)
    return KeyValue(found.key, found.value)


def read_key_modification(result: Any) -> KeyModification:
    found = kv_query_result_pb2.KeyModification.FromString(result.resultBytes)
    timestamp = to_datetime(found.timestamp.seconds, found.timestamp.nanos)
    return KeyModification(found.tx_id, found.value, timestamp, found.is_delete)


def read_invocation(payload: bytes) -> Response:
    """What an invoked chaincode answered; its own failure is a response as well."""
    message = ChaincodeMessage.FromString(payload)
    if message.type != MessageType.Value("COMPLETED"):
        return Response(INTERNAL_ERROR, message.payload.decode(errors="replace"))
    response = proposal_response_pb2.Response.FromString(message.payload)
    return Response(response.status, response.message, response.payload)


def _request(name: str, message: Any) -> Request:
    return Request(MessageType.Value(name), message.SerializeToString())
