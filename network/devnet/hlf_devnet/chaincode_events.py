"""The event stream of a gateway: the events of one chaincode's valid transactions, block by block."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import transaction_pb2

from hlf_devnet.block_events import TransactionEvent, transaction_events
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.statuses import RpcError


async def chaincode_events(ledger: PeerLedger, request: Any) -> AsyncIterator[Any]:
    """`gateway.ChaincodeEventsResponse` for each block with events of the chaincode that `request` names, for ever.

    After a transaction (`after_transaction_id`) it resumes with the next one, whether or not that transaction had an
    event: a Fabric gateway then delivers nothing (docs/devnet.md).
    """
    number = _start(ledger, request)
    wanted = _matcher(request)
    while True:
        await ledger.wait_for_height(number + 1)
        events = [event.event for event in transaction_events(ledger.block_bytes(number)) if wanted(event)]
        if events:
            yield gateway_pb2.ChaincodeEventsResponse(events=events, block_number=number)
        number += 1


def _start(ledger: PeerLedger, request: Any) -> int:
    if request.after_transaction_id:
        number = ledger.block_number_of_transaction(request.after_transaction_id)
        if number is not None:
            return number
    kind = request.start_position.WhichOneof("Type")
    if kind == "specified":
        return int(request.start_position.specified.number)
    if kind in (None, "next_commit"):
        return ledger.height
    text = f"invalid start position type: *orderer.SeekPosition_{kind.capitalize()}"
    raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, text)


def _matcher(request: Any) -> Callable[[TransactionEvent], bool]:
    passed = not request.after_transaction_id

    def wanted(transaction: TransactionEvent) -> bool:
        nonlocal passed
        if not passed:
            passed = transaction.transaction_id == request.after_transaction_id
            return False
        is_valid = transaction.code == transaction_pb2.VALID
        return is_valid and transaction.event is not None and transaction.event.chaincode_id == request.chaincode_id

    return wanted
