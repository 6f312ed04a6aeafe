"""What is inside what: Fabric's messages hold other messages as bytes, and this knows which.

A place in a message is a path of field names, such as `payload.header.channel_header.tx_id` or
`payload.data.actions[0].header`; each name may lead into a message that its field holds as bytes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_event_pb2, chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fuzz.wire import BYTES, Field, Malformed, encode, fields_of

Nested = Mapping[str, Any]
"""`MessageName.field` to the class of the message that the field holds as bytes."""
Change = Callable[[Field], list[Field]]

NESTED: Final[Nested] = {
    "SignedProposal.proposal_bytes": proposal_pb2.Proposal,
    "Proposal.header": common_pb2.Header,
    "Proposal.payload": proposal_pb2.ChaincodeProposalPayload,
    "Header.channel_header": common_pb2.ChannelHeader,
    "Header.signature_header": common_pb2.SignatureHeader,
    "ChannelHeader.extension": proposal_pb2.ChaincodeHeaderExtension,
    "SignatureHeader.creator": identities_pb2.SerializedIdentity,
    "ChaincodeProposalPayload.input": chaincode_pb2.ChaincodeInvocationSpec,
    "Envelope.payload": common_pb2.Payload,
    "TransactionAction.header": common_pb2.SignatureHeader,
    "TransactionAction.payload": transaction_pb2.ChaincodeActionPayload,
    "ChaincodeActionPayload.chaincode_proposal_payload": proposal_pb2.ChaincodeProposalPayload,
    "ChaincodeEndorsedAction.proposal_response_payload": proposal_response_pb2.ProposalResponsePayload,
    "Endorsement.endorser": identities_pb2.SerializedIdentity,
    "ProposalResponsePayload.extension": proposal_pb2.ChaincodeAction,
    "ChaincodeAction.results": rwset_pb2.TxReadWriteSet,
    "ChaincodeAction.events": chaincode_event_pb2.ChaincodeEvent,
    "NsReadWriteSet.rwset": kv_rwset_pb2.KVRWSet,
}
_STEP: Final = re.compile(r"(\w+)(?:\[(\d+)\])?")


class Inapplicable(ValueError):
    """The message has no such place."""


def places(message: Any, encoded: bytes, nested: Nested) -> Iterator[str]:
    """Every path in `encoded`, a `message`."""
    seen: dict[int, int] = {}
    for field in fields_of(encoded):
        descriptor = message.DESCRIPTOR.fields_by_number[field.number]
        index = seen[field.number] = seen.get(field.number, -1) + 1
        name = f"{descriptor.name}[{index}]" if descriptor.label == descriptor.LABEL_REPEATED else descriptor.name
        yield name
        inner = inner_class(message, descriptor, nested)
        if inner is not None and isinstance(field.value, bytes):
            yield from (f"{name}.{path}" for path in places(inner, field.value, nested))


def changed(message: Any, encoded: bytes, path: str, nested: Nested, change: Change) -> bytes:
    """`encoded` with `change` instead of the field at `path`; everything else keeps its bytes. Raises Inapplicable."""
    step, _, rest = path.partition(".")
    fields, position, descriptor = _found(message, encoded, step)
    field = fields[position]
    if rest:
        inner = inner_class(message, descriptor, nested)
        if inner is None or not isinstance(field.value, bytes):
            raise Inapplicable(path)
        fields[position] = Field(field.number, BYTES, changed(inner, field.value, rest, nested, change))
    else:
        fields[position : position + 1] = change(field)
    return encode(fields)


def value_at(message: Any, encoded: bytes, path: str, nested: Nested) -> int | bytes:
    """Raises Inapplicable."""
    found: list[int | bytes] = []

    def keep(field: Field) -> list[Field]:
        found.append(field.value)
        return [field]

    changed(message, encoded, path, nested, keep)
    return found[0]


def inner_class(message: Any, descriptor: Any, nested: Nested) -> Any:
    known = nested.get(f"{message.DESCRIPTOR.name}.{descriptor.name}")
    if known is not None or descriptor.message_type is None:
        return known
    return getattr(descriptor.message_type, "_concrete_class", None)


def _found(message: Any, encoded: bytes, step: str) -> tuple[list[Field], int, Any]:
    match = _STEP.fullmatch(step)
    descriptor = message.DESCRIPTOR.fields_by_name.get(match.group(1)) if match else None
    if match is None or descriptor is None:
        raise Inapplicable(step)
    try:
        fields = fields_of(encoded)
    except Malformed as error:
        raise Inapplicable(step) from error
    positions = [place for place, field in enumerate(fields) if field.number == descriptor.number]
    index = int(match.group(2) or 0)
    if index >= len(positions):
        raise Inapplicable(step)
    return fields, positions[index], descriptor
