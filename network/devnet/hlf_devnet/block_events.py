"""What a committed block tells those who listen: filtered blocks and chaincode events.

Derived from the block alone, so each block is derived once for all peers and listeners of the process.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_event_pb2, events_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf.message import DecodeError

REMEMBERED_BLOCKS: Final = 8
"""Those at the tip, where the listeners are; a block may have megabytes."""


class TransactionEvent(NamedTuple):
    """`code`: `peer.TxValidationCode`. `event`: a `protos.ChaincodeEvent`, None if the transaction has none or is
    malformed."""

    transaction_id: str
    type: int
    code: int
    channel_id: str
    event: Any | None


@lru_cache(maxsize=REMEMBERED_BLOCKS)
def transaction_events(block: bytes) -> tuple[TransactionEvent, ...]:
    """One for each envelope of a serialized `common.Block` that can be read that far, in block order."""
    decoded = common_pb2.Block.FromString(block)
    codes = decoded.metadata.metadata[common_pb2.TRANSACTIONS_FILTER]
    return tuple(_transaction_events(decoded.data.data, codes))


def _transaction_events(envelopes: Any, codes: bytes) -> Iterator[TransactionEvent]:
    for envelope, code in zip(envelopes, codes, strict=True):
        try:
            payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(envelope).payload)
            header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        except DecodeError:
            continue  # an envelope that is none has no id to tell of: a filtered block of Fabric leaves it out too
        event = _event(payload.data) if header.type == common_pb2.ENDORSER_TRANSACTION else None
        yield TransactionEvent(header.tx_id, header.type, code, header.channel_id, event)


def _event(data: bytes) -> Any | None:
    try:
        for action in transaction_pb2.Transaction.FromString(data).actions:
            endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload).action
            answer = proposal_response_pb2.ProposalResponsePayload.FromString(endorsed.proposal_response_payload)
            events = proposal_pb2.ChaincodeAction.FromString(answer.extension).events
            if events:
                return chaincode_event_pb2.ChaincodeEvent.FromString(events)
    except DecodeError:
        return None
    return None


@lru_cache(maxsize=REMEMBERED_BLOCKS)
def filtered_block(number: int, block: bytes) -> bytes:
    """The serialized `protos.FilteredBlock`: ids and codes of all transactions, events without their payloads."""
    filtered = events_pb2.FilteredBlock(number=number)
    for transaction in transaction_events(block):
        filtered.channel_id = transaction.channel_id
        entry = filtered.filtered_transactions.add(
            txid=transaction.transaction_id, type=transaction.type, tx_validation_code=transaction.code
        )
        if transaction.type != common_pb2.ENDORSER_TRANSACTION:
            continue
        entry.transaction_actions.SetInParent()
        event = transaction.event
        if event is not None and event.chaincode_id:
            told = entry.transaction_actions.chaincode_actions.add().chaincode_event
            told.tx_id, told.chaincode_id, told.event_name = event.tx_id, event.chaincode_id, event.event_name
    return bytes(filtered.SerializeToString())
