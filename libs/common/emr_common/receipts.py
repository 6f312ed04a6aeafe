"""A receipt that whoever holds it can check without asking anybody: a disclosure, with the blocks that prove it.

The file is made by the records service (`GET /v1/disclosures/{receipt}/proof`) and read by `emr verify receipt`. It
holds no content: ids, moments and codes as every member of the channel has them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from emr_model.ledger import keys
from emr_model.ledger.codec import JsonValue, ValueMalformed
from emr_model.ledger.functions import Function
from emr_model.ledger.values import Disclosure, Event
from hlf.blocks import composite_key
from hlf.evidence import Evidence, EvidenceInvalid, Proven, decode, prove

FORMAT = "careledger-receipt-1"
LARGEST_BYTES = 64 * 1024 * 1024


class ReceiptRefused(Exception):
    """The file does not prove the disclosure that it names; the text says why."""


@dataclass(frozen=True, slots=True)
class ReceiptProof(JsonValue):
    """The file. Blocks are base64 of serialized `common.Block`s; `configurations` begin with the channel's first."""

    format: str
    channel: str
    chaincode: str
    receipt: str
    configurations: tuple[str, ...]
    block: str


@dataclass(frozen=True, slots=True)
class ProvenDisclosure:
    """Who read what, when and why: in the name of `recipient_msp`, `disclosure.reader` was given version
    `disclosure.version` of an EMR of `owner_msp`; both hospitals' peers, and those of all `endorsers`, signed so.
    """

    receipt: str
    emr_id: str
    transaction_id: str
    block: int
    owner_msp: str
    patient_id: str
    disclosure: Disclosure
    endorsers: tuple[str, ...]


def proof_of(receipt: str, channel: str, chaincode: str, evidence: Evidence) -> ReceiptProof:
    configurations = tuple(base64.b64encode(block).decode() for block in evidence.configurations)
    return ReceiptProof(FORMAT, channel, chaincode, receipt, configurations, base64.b64encode(evidence.block).decode())


def check(document: bytes, trusted_genesis_hash: bytes, chaincode: str) -> ProvenDisclosure:
    """Raises ReceiptRefused unless `document` proves its receipt on the channel whose first block has the trusted hash.

    What is proven and what is not: `hlf.evidence`.
    """
    if len(document) > LARGEST_BYTES:
        raise ReceiptRefused("the file is too large to be a receipt")
    try:
        proof = ReceiptProof.from_json(document)
    except ValueMalformed:
        raise ReceiptRefused("the file is no receipt") from None
    if proof.format != FORMAT:
        raise ReceiptRefused(f"the file is not of the format {FORMAT}")
    if proof.chaincode != chaincode:
        raise ReceiptRefused("it is of another chaincode")
    return _checked(proof, _evidence(proof), trusted_genesis_hash)


def check_own(proof: ReceiptProof) -> ProvenDisclosure:
    """The same for a proof that the own peer gave: its first block is believed. Raises ReceiptRefused."""
    evidence = _evidence(proof)
    return _checked(proof, evidence, decode(evidence.configurations[0]).header_hash)


def _evidence(proof: ReceiptProof) -> Evidence:
    try:
        return Evidence(tuple(map(_bytes, proof.configurations)), _bytes(proof.block))
    except ValueError:
        raise ReceiptRefused("the file is no receipt") from None


def _checked(proof: ReceiptProof, evidence: Evidence, trusted_genesis_hash: bytes) -> ProvenDisclosure:
    try:
        proven = prove(evidence, trusted_genesis_hash, proof.receipt.partition(".")[2])
    except EvidenceInvalid as error:
        raise ReceiptRefused(str(error)) from error
    if proven.transaction.channel != proof.channel:
        raise ReceiptRefused("it is of another channel than it says")
    return _disclosure(proven, proof.receipt, proof.chaincode)


def _disclosure(proven: Proven, receipt: str, chaincode: str) -> ProvenDisclosure:
    transaction, emr_id = proven.transaction, receipt.partition(".")[0]
    key = composite_key(*keys.disclosure(emr_id, transaction.transaction_id))
    values = [write.value for write in transaction.writes if (write.namespace, write.key) == (chaincode, key)]
    function, *arguments = transaction.args
    if transaction.chaincode != chaincode or function.decode() != Function.GET_SHARED_EMR.wire_name or len(values) != 1:
        raise ReceiptRefused("the transaction is not the disclosure of that EMR")
    try:
        disclosure = Disclosure.from_json(values[0])
    except ValueMalformed:
        raise ReceiptRefused("the disclosure cannot be read") from None
    owner_msp, patient_id = (argument.decode() for argument in arguments[:2])
    creator = proven.creator
    if (disclosure.recipient_msp, disclosure.reader) != (creator.msp_id, creator.common_name):
        raise ReceiptRefused("the disclosure names another reader than the one who signed")
    if disclosure.event is not Event.EMR_DISCLOSED or not proven.endorsing_organizations >= {owner_msp, creator.msp_id}:
        raise ReceiptRefused("owner and recipient have not both endorsed it")
    endorsers = tuple(sorted(proven.endorsing_organizations))
    return ProvenDisclosure(
        receipt, emr_id, transaction.transaction_id, proven.block.number, owner_msp, patient_id, disclosure, endorsers
    )


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
