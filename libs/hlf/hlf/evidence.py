"""A transaction proven off-line: that it stands in a block of a channel, who made it, and whose peers endorsed it.

`collect` asks a peer for the block and for every configuration the channel ever had up to it; `prove` needs nothing but
these bytes and the hash of the channel's first block, which the reader must have from somebody they trust. What no
signature covers is the verdict of the peers: orderers sign a block before anybody validates it. `prove` refuses a
transaction that its block marks invalid, and believes the mark otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import proposal_response_pb2, transaction_pb2
from google.protobuf.message import DecodeError

from hlf.blocks import Block, BlockTransaction, decode_block
from hlf.channel_config import config_in, last_config_number, members, section
from hlf.crypto import sha256
from hlf.gateway import Gateway
from hlf.identity import Identity, Signer
from hlf.msp import Msp
from hlf.orderers import OrdererSignatures

_QUERIES = "qscc"


class EvidenceInvalid(Exception):
    """The evidence does not prove the transaction. The text says which check failed, and nothing of the content."""


@dataclass(frozen=True)
class Evidence:
    """Blocks as a peer gives them: serialized `common.Block`s. `configurations` begin with block 0."""

    configurations: tuple[bytes, ...]
    block: bytes


@dataclass(frozen=True)
class Proven:
    """`creator` made `transaction`, and a peer of each of `endorsing_organizations` (MSP ids) signed its result."""

    block: Block
    transaction: BlockTransaction
    creator: Identity
    endorsing_organizations: frozenset[str]


async def collect(gateway: Gateway, signer: Signer, channel: str, transaction_id: str) -> Evidence:
    """The evidence of a transaction, from a peer of the signer's organization. EvaluateError if that peer has it in no
    block."""

    async def query(function: str, argument: str) -> bytes:
        contract = gateway.contract(signer, channel, _QUERIES)
        return await contract.evaluate(function, channel, argument, target_organizations=[signer.msp_id])

    block = await query("GetBlockByTxID", transaction_id)
    configurations: list[bytes] = []
    number = last_config_number(decode(block).message)
    while True:
        configurations.insert(0, await query("GetBlockByNumber", str(number)))
        if number == 0:
            return Evidence(tuple(configurations), block)
        number = last_config_number(decode(await query("GetBlockByNumber", str(number - 1))).message)


async def genesis_hash(gateway: Gateway, signer: Signer, channel: str) -> bytes:
    """By what a channel is known for ever: the hash of its first block's header. EvaluateError."""
    contract = gateway.contract(signer, channel, _QUERIES)
    block = await contract.evaluate("GetBlockByNumber", channel, "0", target_organizations=[signer.msp_id])
    return decode(block).header_hash


def prove(evidence: Evidence, trusted_genesis_hash: bytes, transaction_id: str) -> Proven:
    """Raises EvidenceInvalid unless every check of the module's description holds."""
    try:
        return _prove(evidence, trusted_genesis_hash, transaction_id)
    except (DecodeError, ValueError, IndexError) as error:
        raise EvidenceInvalid(str(error)) from error


def decode(serialized: bytes) -> Block:
    """ValueError if it is no block, or one whose data is not what its header names."""
    try:
        return decode_block(common_pb2.Block.FromString(serialized))
    except DecodeError as error:
        raise ValueError("not a block") from error


def _prove(evidence: Evidence, trusted_genesis_hash: bytes, transaction_id: str) -> Proven:
    configurations = [decode(serialized) for serialized in evidence.configurations]
    block = decode(evidence.block)
    _check_chain(configurations, trusted_genesis_hash, block)
    transaction = _find(block, transaction_id)
    msps = members(section(config_in(configurations[-1].message), "Application"))
    creator = _check_creator(block, transaction, msps)
    return Proven(block, transaction, creator, _endorsers(block, transaction, msps))


def _check_chain(configurations: list[Block], trusted_genesis_hash: bytes, block: Block) -> None:
    """From the trusted hash to the block: each configuration is signed as the one before it asks."""
    if not configurations or configurations[0].number != 0:
        raise EvidenceInvalid("the channel's first block is missing")
    if configurations[0].header_hash != trusted_genesis_hash:
        raise EvidenceInvalid("it is of another channel than the trusted one")
    signatures = OrdererSignatures(configurations[0])
    for before, following in zip(configurations, [*configurations[1:], block], strict=True):
        if following.number <= before.number and following is not block:
            raise EvidenceInvalid("the channel's configurations are not in order")
        signatures.verify(following)
    if last_config_number(block.message) not in (configurations[-1].number, block.number):
        raise EvidenceInvalid("another configuration was in force at the block")


def _find(block: Block, transaction_id: str) -> BlockTransaction:
    """A repeated id counts at its first place, as peers have it."""
    for transaction in block.transactions:
        if transaction.transaction_id == transaction_id:
            if not transaction.is_valid:
                raise EvidenceInvalid(f"the transaction was found invalid: {transaction.validation_name}")
            return transaction
    raise EvidenceInvalid(f"block {block.number} does not hold the transaction")


def _check_creator(block: Block, transaction: BlockTransaction, msps: Mapping[str, Msp]) -> Identity:
    envelope, header = _envelope(block, transaction)
    signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
    if sha256(signature_header.nonce, signature_header.creator).hex() != transaction.transaction_id:
        raise EvidenceInvalid("the transaction's id is not that of its creator and nonce")
    if not _is_member(transaction.creator, msps):
        raise EvidenceInvalid("the creator belonged to no organization of the channel")
    if not transaction.creator.verify(envelope.signature, envelope.payload):
        raise EvidenceInvalid("the creator did not sign the transaction")
    return transaction.creator


def _endorsers(block: Block, transaction: BlockTransaction, msps: Mapping[str, Msp]) -> frozenset[str]:
    """Whose peers signed just this result of just this proposal."""
    envelope, header = _envelope(block, transaction)
    data = common_pb2.Payload.FromString(envelope.payload).data
    action = transaction_pb2.ChaincodeActionPayload.FromString(
        transaction_pb2.Transaction.FromString(data).actions[0].payload
    )
    result = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
    proposed = sha256(header.channel_header, header.signature_header, action.chaincode_proposal_payload)
    if result.proposal_hash != proposed:
        raise EvidenceInvalid("what was endorsed is not what was proposed")
    organizations = set()
    for endorsement in action.action.endorsements:
        endorser = Identity.from_serialized(endorsement.endorser)
        signed = action.action.proposal_response_payload + endorsement.endorser
        is_peer = _is_member(endorser, msps) and msps[endorser.msp_id].has_role(
            endorser, msp_principal_pb2.MSPRole.PEER
        )
        if not is_peer or not endorser.verify(endorsement.signature, signed):
            raise EvidenceInvalid("an endorsement is not that of a peer of the channel")
        organizations.add(endorser.msp_id)
    return frozenset(organizations)


def _envelope(block: Block, transaction: BlockTransaction) -> tuple[Any, Any]:
    envelope = common_pb2.Envelope.FromString(block.message.data.data[transaction.index])
    return envelope, common_pb2.Payload.FromString(envelope.payload).header


def _is_member(identity: Identity, msps: Mapping[str, Msp]) -> bool:
    return identity.msp_id in msps and msps[identity.msp_id].has_member(identity)
