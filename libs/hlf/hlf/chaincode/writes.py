"""What a transaction writes, kept until it is sent: in one batch where the peer takes batches, else one by one.

A transaction never reads its own writes in Fabric, so they may wait for its end. Of several writes to one key the
last one counts; the order of first writes is kept.
"""

from collections.abc import Iterator

from fabric_protos.peer.chaincode_shim_pb2 import DelState, PutState, PutStateMetadata, WriteBatchState, WriteRecord

from hlf.chaincode.requests import VALIDATION_PARAMETER, MessageType, Request


class Writes:
    """Collects writes; `requests` says how to send them."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], WriteRecord] = {}
        self._metadata: dict[tuple[str, str], WriteRecord] = {}

    def put(self, key: str, value: bytes, collection: str = "") -> None:
        """An empty value deletes, as it does in Fabric."""
        record = WriteRecord(type=WriteRecord.PUT_STATE, key=key, value=value, collection=collection)
        self._values[collection, key] = record

    def delete(self, key: str, collection: str = "") -> None:
        self._values[collection, key] = WriteRecord(type=WriteRecord.DEL_STATE, key=key, collection=collection)

    def purge(self, key: str, collection: str) -> None:
        record = WriteRecord(type=WriteRecord.PURGE_PRIVATE_DATA, key=key, collection=collection)
        self._values[collection, key] = record

    def set_validation_parameter(self, key: str, policy: bytes, collection: str = "") -> None:
        record = WriteRecord(type=WriteRecord.PUT_STATE_METADATA, key=key, collection=collection)
        record.metadata.metakey = VALIDATION_PARAMETER
        record.metadata.value = policy
        self._metadata[collection, key] = record

    def requests(self, batch_size: int | None) -> Iterator[Request]:
        """`batch_size`: how many writes the peer takes at once; None for a peer that takes no batches."""
        records = [*self._values.values(), *self._metadata.values()]
        if batch_size is None or len(records) == 1:
            yield from map(_single, records)
            return
        for start in range(0, len(records), batch_size):
            batch = WriteBatchState(rec=records[start : start + batch_size])
            yield Request(MessageType.Value("WRITE_BATCH_STATE"), batch.SerializeToString())


def _single(record: WriteRecord) -> Request:
    message_type = MessageType.Value(WriteRecord.Type.Name(record.type))
    return Request(message_type, _message(record).SerializeToString())


def _message(
    record: WriteRecord,
) -> PutState | PutStateMetadata | DelState:
    key, collection = record.key, record.collection
    if record.type == WriteRecord.PUT_STATE:
        return PutState(key=key, value=record.value, collection=collection)
    if record.type == WriteRecord.PUT_STATE_METADATA:
        return PutStateMetadata(key=key, collection=collection, metadata=record.metadata)
    return DelState(key=key, collection=collection)
