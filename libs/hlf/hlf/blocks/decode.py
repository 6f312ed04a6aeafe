"""From Fabric's nested messages to `Block`.

A block holds whatever was ordered. What its creator got wrong makes a transaction invalid and must not stop a reader;
a *valid* transaction that cannot be read means that this code and the peers disagree, and nothing may be skipped then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from google.protobuf.message import DecodeError

from hlf.blocks.hashes import block_data_hash, block_header_hash
from hlf.blocks.model import (
    NOT_VALIDATED,
    VALID,
    Block,
    BlockTransaction,
    ChaincodeEvent,
    CollectionWrite,
    FilteredBlock,
    FilteredTransaction,
    MetadataWrite,
    PrivateWrite,
    Read,
    Write,
)
from hlf.crypto import sha256
from hlf.identity import Identity

UNREADABLE = -1
_NOBODY = Identity("", b"")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def decode_block(block: Any, private_data: Mapping[int, Any] | None = None) -> Block:
    """Decodes a `common.Block`, with the private data of its transactions by index (`TxPvtReadWriteSet`) if given.

    ValueError if the data hash is wrong, if a valid transaction cannot be read, or if private data does not match the
    hashes in its transaction.
    """
    header = block.header
    envelopes = block.data.data
    if block_data_hash(envelopes) != header.data_hash:
        raise ValueError(f"block {header.number} does not hold the data that its header names")
    codes = _validation_codes(block, len(envelopes))
    private = private_data or {}
    return Block(
        number=header.number,
        previous_hash=header.previous_hash,
        data_hash=header.data_hash,
        header_hash=block_header_hash(header.number, header.previous_hash, header.data_hash),
        transactions=tuple(
            _transaction(index, envelope, code, private.get(index))
            for index, (envelope, code) in enumerate(zip(envelopes, codes, strict=True))
        ),
        message=block,
    )


def decode_filtered_block(block: Any) -> FilteredBlock:
    """Decodes a `protos.FilteredBlock`."""
    return FilteredBlock(
        number=block.number,
        channel=block.channel_id,
        transactions=tuple(_filtered_transaction(transaction) for transaction in block.filtered_transactions),
    )


def decode_payload(payload: bytes) -> BlockTransaction:
    """Decodes a transaction that stands in no block yet, from its `common.Payload`. ValueError if it cannot be read."""
    envelope = common_pb2.Envelope(payload=payload).SerializeToString()
    try:
        return _read_transaction(0, envelope, NOT_VALIDATED)
    except (DecodeError, IndexError) as error:
        raise ValueError("the transaction cannot be read") from error


def _filtered_transaction(transaction: Any) -> FilteredTransaction:
    actions = transaction.transaction_actions.chaincode_actions
    return FilteredTransaction(
        transaction.txid,
        transaction.type,
        transaction.tx_validation_code,
        tuple(action.chaincode_event.event_name for action in actions if action.chaincode_event.event_name),
    )


def _validation_codes(block: Any, count: int) -> Sequence[int]:
    metadata = block.metadata.metadata
    codes = metadata[common_pb2.TRANSACTIONS_FILTER] if len(metadata) > common_pb2.TRANSACTIONS_FILTER else b""
    if not codes:
        return [NOT_VALIDATED] * count
    if len(codes) != count:
        raise ValueError(f"block {block.header.number} has {count} transactions and {len(codes)} validation codes")
    return bytes(codes)


def _transaction(index: int, envelope: bytes, code: int, private: Any) -> BlockTransaction:
    try:
        transaction = _read_transaction(index, envelope, code)
    except (DecodeError, ValueError, IndexError) as error:
        if code == VALID:
            raise ValueError(f"valid transaction {index} cannot be read") from error
        return BlockTransaction(index, "", UNREADABLE, _EPOCH, "", _NOBODY, code)
    return transaction if private is None else _with_private_writes(transaction, private)


def _read_transaction(index: int, envelope: bytes, code: int) -> BlockTransaction:
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
    channel_header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    is_endorsed = channel_header.type == common_pb2.ENDORSER_TRANSACTION
    return BlockTransaction(
        index=index,
        transaction_id=channel_header.tx_id,
        type=channel_header.type,
        timestamp=_datetime(channel_header.timestamp),
        channel=channel_header.channel_id,
        creator=_identity(signature_header.creator),
        validation_code=code,
        **(_endorsed(payload.data) if is_endorsed else {}),
    )


def _endorsed(data: bytes) -> dict[str, Any]:
    """Fabric allows one action in a transaction."""
    envelope = transaction_pb2.Transaction.FromString(data).actions[0]
    payload = transaction_pb2.ChaincodeActionPayload.FromString(envelope.payload)
    response = proposal_response_pb2.ProposalResponsePayload.FromString(payload.action.proposal_response_payload)
    action = proposal_pb2.ChaincodeAction.FromString(response.extension)
    return {
        "chaincode": action.chaincode_id.name,
        "endorsers": tuple(_identity(endorsement.endorser) for endorsement in payload.action.endorsements),
        "event": _event(action.events),
        "response_status": action.response.status,
        "response_payload": action.response.payload,
        "proposal_payload": payload.chaincode_proposal_payload,
        **_read_write_sets(rwset_pb2.TxReadWriteSet.FromString(action.results).ns_rwset),
    }


def _read_write_sets(namespaces: Iterable[Any]) -> dict[str, Any]:
    reads: list[Read] = []
    writes: list[Write] = []
    metadata: list[MetadataWrite] = []
    hashed: list[CollectionWrite] = []
    for entry in namespaces:
        name = entry.namespace
        keys = kv_rwset_pb2.KVRWSet.FromString(entry.rwset)
        reads += [Read(name, read.key, _version(read)) for read in keys.reads]
        writes += [Write(name, write.key, write.value, write.is_delete) for write in keys.writes]
        metadata += [MetadataWrite(name, "", write.key, _entries(write)) for write in keys.metadata_writes]
        for collection in entry.collection_hashed_rwset:
            hashes = kv_rwset_pb2.HashedRWSet.FromString(collection.hashed_rwset)
            hashed += [_hashed_write(name, collection.collection_name, write) for write in hashes.hashed_writes]
            metadata += [
                MetadataWrite(name, collection.collection_name, write.key_hash, _entries(write))
                for write in hashes.metadata_writes
            ]
    return {
        "reads": tuple(reads),
        "writes": tuple(writes),
        "metadata_writes": tuple(metadata),
        "collection_writes": tuple(hashed),
    }


def _with_private_writes(transaction: BlockTransaction, private: Any) -> BlockTransaction:
    hashes = {(write.namespace, write.collection, write.key_hash): write for write in transaction.collection_writes}
    found = tuple(
        _private_write(namespace.namespace, collection.collection_name, write, hashes, transaction.index)
        for namespace in private.ns_pvt_rwset
        for collection in namespace.collection_pvt_rwset
        for write in kv_rwset_pb2.KVRWSet.FromString(collection.rwset).writes
    )
    return replace(transaction, private_writes=found)


def _private_write(
    namespace: str,
    collection: str,
    write: Any,
    hashes: Mapping[tuple[str, str, bytes], CollectionWrite],
    index: int,
) -> PrivateWrite:
    public = hashes.get((namespace, collection, sha256(write.key.encode())))
    is_same = public is not None and public.is_delete == write.is_delete
    if public is None or not is_same or (not write.is_delete and public.value_hash != sha256(write.value)):
        raise ValueError(f"private data of transaction {index} does not match the hashes in the block")
    value = None if write.is_delete else write.value
    return PrivateWrite(namespace, collection, write.key, value, write.is_delete, public.is_purge)


def _hashed_write(namespace: str, collection: str, write: Any) -> CollectionWrite:
    return CollectionWrite(namespace, collection, write.key_hash, write.value_hash, write.is_delete, write.is_purge)


def _entries(write: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple((entry.name, entry.value) for entry in write.entries)


def _version(read: Any) -> tuple[int, int] | None:
    return (read.version.block_num, read.version.tx_num) if read.HasField("version") else None


def _event(serialized: bytes) -> ChaincodeEvent | None:
    if not serialized:
        return None
    event = chaincode_event_pb2.ChaincodeEvent.FromString(serialized)
    return ChaincodeEvent(event.chaincode_id, event.event_name, event.payload) if event.event_name else None


def _datetime(timestamp: Any) -> datetime:
    try:
        result: datetime = timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return _EARLIEST if timestamp.seconds < 0 else _LATEST
    return result


@lru_cache(maxsize=4096)
def _identity(serialized: bytes) -> Identity:
    """The same few people stand in every block; their certificates need parsing once."""
    return Identity.from_serialized(serialized)
