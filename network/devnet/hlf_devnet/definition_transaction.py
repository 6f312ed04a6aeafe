"""The transaction by which devnet puts a definition of its configuration file in force: approved for every member whose
peer it runs, and committed, all at once. Through the network it would be one approval each and then a commit."""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fabric_protos.common import common_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from fabric_protos.peer.lifecycle import lifecycle_pb2
from google.protobuf import timestamp_pb2
from hlf.channel_config import IMPLICIT_PREFIX
from hlf.identity import SigningIdentity

from hlf_devnet.envelopes import proposal_hash
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.lifecycle import (
    DEFINITIONS,
    ENDORSEMENT_PLUGIN,
    NAMESPACE,
    SOURCES,
    VALIDATION_PLUGIN,
    ChaincodeDefinition,
    committed_definition,
    definition_structure,
    parameters_structure,
    source_structure,
)
from hlf_devnet.simulator import SimulationResult, Simulator

FUNCTION = "CommitChaincodeDefinition"


class DefinitionTransaction(NamedTuple):
    """`envelope` is for the orderer. `private`: bytes of a TxPvtReadWriteSet, to be in transient stores before that;
    None without approvals."""

    tx_id: str
    envelope: bytes
    private: bytes | None


def commit_definition(
    ledger: PeerLedger,
    channel: str,
    definition: ChaincodeDefinition,
    creator: SigningIdentity,
    endorsers: Sequence[SigningIdentity],
    approvals: Mapping[str, str] | None = None,
) -> DefinitionTransaction | None:
    """The transaction that commits `definition`, endorsed by `endorsers` (peers' identities), with `approvals`: package
    ids by MSP id. None when the ledger has that sequence or a later one. ValueError when one is left out between."""
    committed = committed_definition(ledger, definition.name)
    expected = 1 if committed is None else committed.sequence + 1
    if definition.sequence < expected:
        return None
    if definition.sequence != expected:
        raise ValueError(f"chaincode {definition.name}: sequence {definition.sequence} given, {expected} expected")
    result = _simulated(ledger, definition, approvals or {})
    tx_id, envelope = _endorsed(channel, definition, result.public, creator, endorsers)
    return DefinitionTransaction(tx_id, envelope, result.private)


def _simulated(ledger: PeerLedger, definition: ChaincodeDefinition, approvals: Mapping[str, str]) -> SimulationResult:
    simulator = Simulator(ledger, "a definition of the configuration file")
    try:
        simulator.enter_system(NAMESPACE)
        entries = definition_structure(definition).entries(DEFINITIONS, definition.name)
        for key in entries:
            simulator.get_state(NAMESPACE, key)
        for key, value in entries.items():
            simulator.put_state(NAMESPACE, key, value)
        for msp_id, package_id in approvals.items():
            _approve(simulator, IMPLICIT_PREFIX + msp_id, definition, package_id)
        return simulator.finish()
    finally:
        simulator.close()


def _approve(simulator: Simulator, collection: str, definition: ChaincodeDefinition, package_id: str) -> None:
    name = definition.private_name
    approved = parameters_structure(definition).entries(DEFINITIONS, name)
    for key, value in {**approved, **source_structure(package_id).entries(SOURCES, name)}.items():
        simulator.put_private(NAMESPACE, collection, key, value)


def _endorsed(
    channel: str,
    definition: ChaincodeDefinition,
    results: bytes,
    creator: SigningIdentity,
    endorsers: Sequence[SigningIdentity],
) -> tuple[str, bytes]:
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
    envelope = common_pb2.Envelope(payload=payload, signature=creator.sign(payload)).SerializeToString()
    tx_id = common_pb2.ChannelHeader.FromString(header.channel_header).tx_id
    return tx_id, bytes(envelope)


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
        endorsement_plugin=ENDORSEMENT_PLUGIN,
        validation_plugin=VALIDATION_PLUGIN,
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
