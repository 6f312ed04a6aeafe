"""Answers what a chaincode asks of its peer while it runs a transaction."""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2
from google.protobuf.message import DecodeError

from hlf_devnet.chaincode_messages import ChaincodeMessage, Kind
from hlf_devnet.chaincode_session import RequestRefused
from hlf_devnet.faults import LEDGER_FAULTS, Faults
from hlf_devnet.proposal import Decoded, Proposal
from hlf_devnet.simulator import RangeIterator, SimulationError, Simulator
from hlf_devnet.state import KeyModification

RESULTS_PER_MESSAGE: Final = 100


@dataclass(slots=True)
class TransactionContext:
    """One chaincode's part in one transaction. `simulator` and `private_reads`, pairs of (namespace, collection), are
    shared with the chaincodes that it calls in the same channel."""

    channel_id: str
    transaction_id: str
    namespace: str
    proposal: Proposal
    simulator: Simulator
    private_reads: set[tuple[str, str]]
    queries: dict[str, "_Query"] = field(default_factory=dict)


Invoke = Callable[[TransactionContext, str, str, Any], Awaitable[ChaincodeMessage]]
"""Runs another chaincode in the transaction: (context of the caller, name, channel or empty, ChaincodeInput)."""


class StateRequests:
    """A callable for `ChaincodeClient`: answers with the payload of the RESPONSE or raises RequestRefused."""

    def __init__(self, invoke: Invoke, total_query_limit: int, faults: Faults) -> None:
        self._invoke = invoke
        self._faults = faults
        self._total_query_limit = total_query_limit
        self._numbers = itertools.count(1)
        self._handlers: dict[int, Callable[[TransactionContext, bytes], bytes | Awaitable[bytes]]] = {
            Kind.GET_STATE: _get_state,
            Kind.GET_STATE_MULTIPLE: _get_states,
            Kind.GET_PRIVATE_DATA_HASH: _get_private_hash,
            Kind.GET_STATE_METADATA: _get_metadata,
            Kind.PUT_STATE: _put_state,
            Kind.DEL_STATE: _delete_state,
            Kind.PURGE_PRIVATE_DATA: _purge_private,
            Kind.PUT_STATE_METADATA: _put_metadata,
            Kind.WRITE_BATCH_STATE: _write_batch,
            Kind.GET_STATE_BY_RANGE: self._range,
            Kind.GET_HISTORY_FOR_KEY: self._history,
            Kind.GET_QUERY_RESULT: _rich_query,
            Kind.QUERY_STATE_NEXT: _query_next,
            Kind.QUERY_STATE_CLOSE: _query_close,
            Kind.INVOKE_CHAINCODE: self._invoke_chaincode,
        }

    def __call__(self, request: ChaincodeMessage, context: TransactionContext) -> bytes | Awaitable[bytes]:
        try:
            return self._handlers[request.type](context, request.payload)
        except SimulationError as error:
            raise RequestRefused(str(error)) from error
        except LEDGER_FAULTS as fault:
            self._faults.report(fault)
            raise RequestRefused("the peer's ledger is damaged") from fault

    def _range(self, context: TransactionContext, payload: bytes) -> bytes:
        asked = _decode(chaincode_shim_pb2.GetStateByRange, payload)
        page = _decode(chaincode_shim_pb2.QueryMetadata, asked.metadata)
        limit = self._total_query_limit
        paged = False
        if asked.collection:
            context.private_reads.add((context.namespace, asked.collection))
            rows = context.simulator.private_range(context.namespace, asked.collection, asked.startKey, asked.endKey)
        elif page.pageSize or page.bookmark:
            paged = True
            limit = min(page.pageSize, limit) if page.pageSize > 0 else limit
            rows = context.simulator.page(context.namespace, asked.startKey, asked.endKey, page.pageSize, page.bookmark)
        else:
            rows = context.simulator.range(context.namespace, asked.startKey, asked.endKey)
        return self._open(context, _RangeResults(context.namespace, rows), limit, paged)

    def _history(self, context: TransactionContext, payload: bytes) -> bytes:
        asked = _decode(chaincode_shim_pb2.GetHistoryForKey, payload)
        changes = context.simulator.history(context.namespace, asked.key)
        return self._open(context, _HistoryResults(changes), self._total_query_limit, paged=False)

    def _open(self, context: TransactionContext, results: "_Results", limit: int, paged: bool) -> bytes:
        identifier = f"{context.transaction_id}-{next(self._numbers)}"
        query = context.queries[identifier] = _Query(identifier, results, limit, paged)
        return query.next_message(context)

    async def _invoke_chaincode(self, context: TransactionContext, payload: bytes) -> bytes:
        specification = _decode(chaincode_pb2.ChaincodeSpec, payload)
        name_and_version, _, channel = specification.chaincode_id.name.partition("/")
        name = name_and_version.partition(":")[0]
        try:
            answer = await self._invoke(context, name, channel, specification.input)
        except SimulationError as error:
            raise RequestRefused(str(error)) from error
        return bytes(answer.SerializeToString())


class _Results:
    """What a query yields, as serialized results."""

    def next(self) -> bytes | None:
        raise NotImplementedError

    def bookmark(self) -> str:
        return ""

    def close(self) -> None: ...


class _RangeResults(_Results):
    def __init__(self, namespace: str, rows: RangeIterator) -> None:
        self._namespace = namespace
        self._rows = rows

    def next(self) -> bytes | None:
        row = self._rows.next()
        if row is None:
            return None
        result = kv_query_result_pb2.KV(namespace=self._namespace, key=row.key, value=row.value)
        return bytes(result.SerializeToString())

    def bookmark(self) -> str:
        return self._rows.bookmark()

    def close(self) -> None:
        self._rows.close()


class _HistoryResults(_Results):
    def __init__(self, changes: Iterator[KeyModification]) -> None:
        self._changes = changes

    def next(self) -> bytes | None:
        change = next(self._changes, None)
        if change is None:
            return None
        result = kv_query_result_pb2.KeyModification(tx_id=change.tx_id, value=change.value, is_delete=change.is_delete)
        result.timestamp.seconds, result.timestamp.nanos = change.timestamp
        return bytes(result.SerializeToString())


class _Query:
    """An open query. A page is one message; otherwise each message has 100 results until none are left."""

    def __init__(self, identifier: str, results: _Results, limit: int, paged: bool) -> None:
        self.identifier = identifier
        self.results = results
        self._limit = limit
        self._paged = paged
        self._pending: list[bytes] = []
        self._count = 0

    def next_message(self, context: TransactionContext) -> bytes:
        while self._count < self._limit and (result := self.results.next()) is not None:
            self._count += 1
            if not self._paged and len(self._pending) == RESULTS_PER_MESSAGE:
                return self._message([result], has_more=True)
            self._pending.append(result)
        metadata = b""
        if self._paged:
            about_the_page = chaincode_shim_pb2.QueryResponseMetadata(
                fetched_records_count=self._count, bookmark=self.results.bookmark()
            )
            metadata = about_the_page.SerializeToString()
        _close(context, self.identifier)
        return self._message([], has_more=False, metadata=metadata)

    def _message(self, still_pending: list[bytes], *, has_more: bool, metadata: bytes = b"") -> bytes:
        batch, self._pending = self._pending, still_pending
        message = chaincode_shim_pb2.QueryResponse(
            results=[chaincode_shim_pb2.QueryResultBytes(resultBytes=result) for result in batch],
            has_more=has_more,
            id=self.identifier,
            metadata=metadata,
        )
        return bytes(message.SerializeToString())


def _decode(message: type[Decoded], payload: bytes) -> Any:
    try:
        return message.FromString(payload)
    except DecodeError as error:
        raise RequestRefused("unmarshal failed: proto: cannot parse invalid wire-format data") from error


def _get_state(context: TransactionContext, payload: bytes) -> bytes:
    asked = _decode(chaincode_shim_pb2.GetState, payload)
    return _value(context, asked.collection, asked.key)


def _get_states(context: TransactionContext, payload: bytes) -> bytes:
    asked = _decode(chaincode_shim_pb2.GetStateMultiple, payload)
    values = [_value(context, asked.collection, key) for key in asked.keys]
    return bytes(chaincode_shim_pb2.GetStateMultipleResult(values=values).SerializeToString())


def _value(context: TransactionContext, collection: str, key: str) -> bytes:
    if not collection:
        return context.simulator.get_state(context.namespace, key)
    context.private_reads.add((context.namespace, collection))
    return context.simulator.get_private(context.namespace, collection, key)


def _get_private_hash(context: TransactionContext, payload: bytes) -> bytes:
    asked = _decode(chaincode_shim_pb2.GetState, payload)
    return context.simulator.get_private_hash(context.namespace, asked.collection, asked.key)


def _get_metadata(context: TransactionContext, payload: bytes) -> bytes:
    asked = _decode(chaincode_shim_pb2.GetStateMetadata, payload)
    if asked.collection:
        metadata = context.simulator.get_private_metadata(context.namespace, asked.collection, asked.key)
    else:
        metadata = context.simulator.get_state_metadata(context.namespace, asked.key)
    entries = [chaincode_shim_pb2.StateMetadata(metakey=name, value=value) for name, value in metadata.items()]
    return bytes(chaincode_shim_pb2.StateMetadataResult(entries=entries).SerializeToString())


def _put_state(context: TransactionContext, payload: bytes) -> bytes:
    return _write_state(context, _decode(chaincode_shim_pb2.PutState, payload))


def _write_state(context: TransactionContext, asked: Any) -> bytes:
    if asked.collection:
        context.simulator.put_private(context.namespace, asked.collection, asked.key, asked.value)
    else:
        context.simulator.put_state(context.namespace, asked.key, asked.value)
    return b""


def _delete_state(context: TransactionContext, payload: bytes) -> bytes:
    return _remove_state(context, _decode(chaincode_shim_pb2.DelState, payload))


def _remove_state(context: TransactionContext, asked: Any) -> bytes:
    if asked.collection:
        context.simulator.delete_private(context.namespace, asked.collection, asked.key)
    else:
        context.simulator.delete_state(context.namespace, asked.key)
    return b""


def _purge_private(context: TransactionContext, payload: bytes) -> bytes:
    return _purge(context, _decode(chaincode_shim_pb2.PurgePrivateState, payload))


def _purge(context: TransactionContext, asked: Any) -> bytes:
    if not asked.collection:
        raise RequestRefused("only applicable for private data")
    context.simulator.purge_private(context.namespace, asked.collection, asked.key)
    return b""


def _put_metadata(context: TransactionContext, payload: bytes) -> bytes:
    return _write_metadata(context, _decode(chaincode_shim_pb2.PutStateMetadata, payload))


def _write_metadata(context: TransactionContext, asked: Any) -> bytes:
    metadata = {asked.metadata.metakey: asked.metadata.value}
    if asked.collection:
        context.simulator.put_private_metadata(context.namespace, asked.collection, asked.key, metadata)
    else:
        context.simulator.put_state_metadata(context.namespace, asked.key, metadata)
    return b""


_WRITES: Final = {
    chaincode_shim_pb2.WriteRecord.PUT_STATE: _write_state,
    chaincode_shim_pb2.WriteRecord.DEL_STATE: _remove_state,
    chaincode_shim_pb2.WriteRecord.PURGE_PRIVATE_DATA: _purge,
    chaincode_shim_pb2.WriteRecord.PUT_STATE_METADATA: _write_metadata,
}


def _write_batch(context: TransactionContext, payload: bytes) -> bytes:
    for record in _decode(chaincode_shim_pb2.WriteBatchState, payload).rec:
        write = _WRITES.get(record.type)
        if write is None:
            raise RequestRefused("unknown operation type")
        write(context, record)
    return b""


def _rich_query(_: TransactionContext, __: bytes) -> bytes:
    raise RequestRefused("ExecuteQuery not supported for leveldb")


def _query_next(context: TransactionContext, payload: bytes) -> bytes:
    query = context.queries.get(_decode(chaincode_shim_pb2.QueryStateNext, payload).id)
    if query is None:
        raise RequestRefused("query iterator not found")
    return query.next_message(context)


def _query_close(context: TransactionContext, payload: bytes) -> bytes:
    identifier = _decode(chaincode_shim_pb2.QueryStateClose, payload).id
    _close(context, identifier)
    return bytes(chaincode_shim_pb2.QueryResponse(has_more=False, id=identifier).SerializeToString())


def _close(context: TransactionContext, identifier: str) -> None:
    query = context.queries.pop(identifier, None)
    if query is not None:
        query.results.close()
