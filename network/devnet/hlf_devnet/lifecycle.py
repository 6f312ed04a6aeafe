"""Chaincode definitions as they stand on the ledger, in the `_lifecycle` namespace."""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fabric_protos.common import common_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2, lifecycle_pb2
from google.protobuf import timestamp_pb2
from hlf.identity import SigningIdentity

from hlf_devnet.envelopes import proposal_hash
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.rwset import RwsetBuilder
from hlf_devnet.state import Snapshot

NAMESPACE = "_lifecycle"
POLICY = "/Channel/Application/LifecycleEndorsement"
FUNCTION = "CommitChaincodeDefinition"
_FIELDS = ("Sequence", "EndorsementInfo", "ValidationInfo", "Collections")


@dataclass(frozen=True, slots=True)
class ChaincodeDefinition:
    """`policy`: bytes of a `peer.ApplicationPolicy` (`policy.signature_policy`, `policy.channel_policy`)."""

    name: str
    version: str
    sequence: int
    policy: bytes


def sequence_key(chaincode: str) -> str:
    """The key that every transaction of a chaincode reads, so that one endorsed before an upgrade fails after it."""
    return _field_key(chaincode, "Sequence")


def definition_keys(chaincode: str) -> list[str]:
    """Every key of a definition: a peer reads them all when it looks up a chaincode's collections."""
    return [_metadata_key(chaincode), *(_field_key(chaincode, field) for field in _FIELDS)]


def committed_definition(ledger: PeerLedger, name: str) -> ChaincodeDefinition | None:
    """The newest definition; remembered until a block changes one."""
    if name not in ledger.definitions:
        with ledger.snapshot() as snapshot:
            ledger.definitions[name] = definition_at(snapshot, name)
    return cast("ChaincodeDefinition | None", ledger.definitions[name])


def definition_at(snapshot: Snapshot, name: str) -> ChaincodeDefinition | None:
    """The definition that stands at the snapshot's height."""
    sequence = snapshot.get(NAMESPACE, sequence_key(name))
    if sequence is None:
        return None
    messages = chaincode_definition_pb2
    endorsement = messages.ChaincodeEndorsementInfo.FromString(_bytes_of(snapshot, name, "EndorsementInfo"))
    validation = messages.ChaincodeValidationInfo.FromString(_bytes_of(snapshot, name, "ValidationInfo"))
    number = db_pb2.StateData.FromString(sequence.value).Int64
    return ChaincodeDefinition(name, endorsement.version, number, validation.validation_parameter)


def committed_names(snapshot: Snapshot) -> list[str]:
    """Every chaincode that is defined, by name."""
    prefix = "namespaces/metadata/"
    return [key.removeprefix(prefix) for key, _ in snapshot.range(NAMESPACE, prefix, prefix[:-1] + "0")]


def commit_definition(
    ledger: PeerLedger,
    channel: str,
    definition: ChaincodeDefinition,
    creator: SigningIdentity,
    endorsers: Sequence[SigningIdentity],
) -> bytes | None:
    """The envelope of the transaction that commits `definition` (`_lifecycle` CommitChaincodeDefinition), endorsed by
    `endorsers` (peers' identities); submit it to the orderer. None when the ledger already holds it. ValueError when
    the ledger's sequence is not the one before, or the same one stands for something else."""
    with ledger.snapshot() as snapshot:
        committed = definition_at(snapshot, definition.name)
        if committed == definition:
            return None
        expected = 1 if committed is None else committed.sequence + 1
        if definition.sequence != expected:
            raise ValueError(f"chaincode {definition.name}: sequence {definition.sequence} given, {expected} expected")
        results = _results(snapshot, definition)
    return _endorsed(channel, definition, results, creator, endorsers)


def _bytes_of(snapshot: Snapshot, chaincode: str, field: str) -> bytes:
    found = snapshot.get(NAMESPACE, _field_key(chaincode, field))
    return b"" if found is None else bytes(db_pb2.StateData.FromString(found.value).Bytes)


def _field_key(chaincode: str, field: str) -> str:
    return f"namespaces/fields/{chaincode}/{field}"


def _results(snapshot: Snapshot, definition: ChaincodeDefinition) -> bytes:
    """The read-write set. A real one also reads what organizations approved in private; here nobody has to."""
    builder = RwsetBuilder()
    for key in (sequence_key(definition.name), _metadata_key(definition.name)):
        value = snapshot.get(NAMESPACE, key)
        builder.read(NAMESPACE, key, None if value is None else value.version)
    for key, content in _written(definition).items():
        builder.write(NAMESPACE, key, content)
    return builder.build()[0]


def _written(definition: ChaincodeDefinition) -> Mapping[str, bytes]:
    endorsement = chaincode_definition_pb2.ChaincodeEndorsementInfo(
        version=definition.version, endorsement_plugin="escc"
    )
    validation = chaincode_definition_pb2.ChaincodeValidationInfo(
        validation_plugin="vscc", validation_parameter=definition.policy
    )
    values = {
        "Sequence": db_pb2.StateData(Int64=definition.sequence),
        "EndorsementInfo": db_pb2.StateData(Bytes=endorsement.SerializeToString()),
        "ValidationInfo": db_pb2.StateData(Bytes=validation.SerializeToString()),
        "Collections": db_pb2.StateData(Bytes=b""),
    }
    metadata = db_pb2.StateMetadata(datatype="ChaincodeDefinition", fields=_FIELDS)
    fields = {_field_key(definition.name, field): value.SerializeToString() for field, value in values.items()}
    return {**fields, _metadata_key(definition.name): metadata.SerializeToString()}


def _metadata_key(chaincode: str) -> str:
    return f"namespaces/metadata/{chaincode}"


def _endorsed(
    channel: str,
    definition: ChaincodeDefinition,
    results: bytes,
    creator: SigningIdentity,
    endorsers: Sequence[SigningIdentity],
) -> bytes:
    header, proposal_payload = _proposal(channel, definition, creator)
    action = proposal_pb2.ChaincodeAction(
        results=results,
        response=proposal_response_pb2.Response(status=200),
        chaincode_id=chaincode_pb2.ChaincodeID(name=NAMESPACE, version="syscc"),
    )
    response = proposal_response_pb2.ProposalResponsePayload(
        proposal_hash=proposal_hash(header.channel_header, header.signature_header, proposal_payload),
        extension=action.SerializeToString(),
    ).SerializeToString()
    endorsements = [
        proposal_response_pb2.Endorsement(
            endorser=endorser.serialized, signature=endorser.sign(response + endorser.serialized)
        )
        for endorser in endorsers
    ]
    endorsed = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=proposal_payload,
        action=transaction_pb2.ChaincodeEndorsedAction(proposal_response_payload=response, endorsements=endorsements),
    )
    only = transaction_pb2.TransactionAction(header=header.signature_header, payload=endorsed.SerializeToString())
    data = transaction_pb2.Transaction(actions=[only]).SerializeToString()
    payload = common_pb2.Payload(header=header, data=data).SerializeToString()
    return bytes(common_pb2.Envelope(payload=payload, signature=creator.sign(payload)).SerializeToString())


def _proposal(channel: str, definition: ChaincodeDefinition, creator: SigningIdentity) -> tuple[Any, bytes]:
    """Header and the payload as it is hashed."""
    nonce = os.urandom(24)
    now = time.time_ns()
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.ENDORSER_TRANSACTION,
        channel_id=channel,
        tx_id=hashlib.sha256(nonce + creator.serialized).hexdigest(),
        timestamp=timestamp_pb2.Timestamp(seconds=now // 10**9, nanos=now % 10**9),
        extension=proposal_pb2.ChaincodeHeaderExtension(
            chaincode_id=chaincode_pb2.ChaincodeID(name=NAMESPACE)
        ).SerializeToString(),
    )
    arguments = lifecycle_pb2.CommitChaincodeDefinitionArgs(
        sequence=definition.sequence,
        name=definition.name,
        version=definition.version,
        endorsement_plugin="escc",
        validation_plugin="vscc",
        validation_parameter=definition.policy,
    )
    spec = chaincode_pb2.ChaincodeSpec(
        chaincode_id=chaincode_pb2.ChaincodeID(name=NAMESPACE),
        input=chaincode_pb2.ChaincodeInput(args=[FUNCTION.encode(), arguments.SerializeToString()]),
    )
    invocation = chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=spec)
    payload = proposal_pb2.ChaincodeProposalPayload(input=invocation.SerializeToString()).SerializeToString()
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=creator.serialized, nonce=nonce).SerializeToString(),
    )
    return header, payload
