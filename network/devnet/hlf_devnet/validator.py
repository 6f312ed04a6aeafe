"""Judges a block: a validation code for each transaction, and what the valid ones change."""

from collections.abc import Sequence
from typing import Any

from fabric_protos.common import common_pb2, configtx_pb2
from google.protobuf.message import DecodeError
from hlf.admin import update
from hlf.admin.errors import ConfigurationInvalid

from hlf_devnet import lifecycle, rwset
from hlf_devnet.blockstore import header_hash
from hlf_devnet.bundle import Bundles, ChannelBundle
from hlf_devnet.endorsement import (
    PolicyJustChanged,
    WrittenKey,
    committed_policy_of_key,
    judged_parts,
    keys_with_changed_metadata,
    required_policies,
)
from hlf_devnet.envelopes import (
    Action,
    Codes,
    Headers,
    InvalidTransaction,
    action,
    check_headers,
    check_transaction_id,
    endorsed_action,
    headers,
    recorded_transaction_id,
)
from hlf_devnet.identities import VerifiedIdentity
from hlf_devnet.ledger import LedgerCorrupt, PeerLedger
from hlf_devnet.msp import IdentityError
from hlf_devnet.mvcc import BlockState
from hlf_devnet.policy import PolicyError
from hlf_devnet.state import Snapshot, Version
from hlf_devnet.updates import commit_hash_metadata
from hlf_devnet.validated import ValidatedBlock, ValidatedTransaction

__all__ = ["ValidatedBlock", "ValidatedTransaction", "Validator"]

METADATA_ENTRIES = 5
REMEMBERED_BLOCKS = 4


class Validator:
    """Judges each block once for all peers of the process: what one organization's ledger knows at a height, every
    other's does. A block is judged by the configuration that the ledger had before it. A peer that catches up takes the
    codes recorded by a peer that already has the block: a certificate that was revoked since must not split the
    channel."""

    def __init__(self, channel: str, bundles: Bundles) -> None:
        self._channel = channel
        self._bundles = bundles
        self._ledgers: list[PeerLedger] = []
        self._newest: dict[bytes, ValidatedBlock] = {}

    def register(self, ledger: PeerLedger) -> None:
        """A ledger whose recorded codes may be used."""
        self._ledgers.append(ledger)

    def unregister(self, ledger: PeerLedger) -> None:
        self._ledgers = [known for known in self._ledgers if known is not ledger]

    def validate(self, block: bytes, ledger: PeerLedger) -> ValidatedBlock:
        """`block`: the orderer's serialized block with number `ledger.height`. Call in the event loop's thread."""
        message = common_pb2.Block.FromString(block)
        block_hash = header_hash(message.header)
        known = self._newest.get(block_hash)
        if known is None:
            if message.header.previous_hash != ledger.last_hash:
                number = message.header.number
                raise LedgerCorrupt(ledger.folder, number, "the orderer's block does not follow from the one before")
            known = self._newest[block_hash] = self._judge(message, block_hash, ledger)
            if len(self._newest) > REMEMBERED_BLOCKS:
                del self._newest[next(iter(self._newest))]
        return known

    def _judge(self, block: Any, block_hash: bytes, ledger: PeerLedger) -> ValidatedBlock:
        number = block.header.number
        with ledger.snapshot() as snapshot:
            if snapshot.height != number:
                raise ValueError(f"block {number} cannot be judged at height {snapshot.height}")
            recorded = self._recorded_codes(block)
            judgement = _Judgement(self._channel, self._bundle(ledger, recorded), snapshot, ledger)
            transactions = judgement.run(block, recorded)
        codes = bytes(transaction.code for transaction in transactions)
        updates = judgement.state.updates
        commit_hash = updates.commit_hash(codes, ledger.commit_hash) if number else b""
        _complete_metadata(block, codes, commit_hash)
        raw = block.SerializeToString()
        return ValidatedBlock(number, block_hash, raw, transactions, updates, commit_hash, judgement.config)

    def _bundle(self, ledger: PeerLedger, recorded: bytes | None) -> ChannelBundle | None:
        """What is judged already needs none, and the first block could have none."""
        if recorded is not None:
            return None
        bundle = self._bundles.of(ledger.config)
        bundle.msps.reload_revocations()
        return bundle

    def _recorded_codes(self, block: Any) -> bytes | None:
        number = block.header.number
        if number == 0:
            return bytes(len(block.data.data))  # nobody signs a genesis block: whoever joins decides to trust it
        for ledger in self._ledgers:
            if ledger.height > number:
                return bytes(ledger.block(number).metadata.metadata[common_pb2.TRANSACTIONS_FILTER])
        return None


class _Judgement:
    """One block. First every transaction by itself (form, signatures, policies), then in order against the state."""

    def __init__(self, channel: str, bundle: ChannelBundle | None, snapshot: Snapshot, ledger: PeerLedger) -> None:
        """`bundle` is None for a block that is judged already."""
        self._channel = channel
        if bundle is not None:
            self._msps, self._policies = bundle.msps, bundle.policies
        self._snapshot = snapshot
        self._ledger = ledger
        self._chaincode_policies: dict[str, Any | None] = {}
        self._changed_policies: set[WrittenKey] = set()
        self._seen: set[str] = set()
        self.state = BlockState(snapshot)
        self.config: Any | None = None

    def run(self, block: Any, recorded: bytes | None) -> tuple[ValidatedTransaction, ...]:
        contents = block.data.data
        if recorded is not None:
            judged = [self._replayed(content, code) for content, code in zip(contents, recorded, strict=True)]
        else:
            judged = [self._judged_alone(content) for content in contents]
        return tuple(
            self._judged_in_order(Version(block.header.number, index), content, *judged[index], recorded is not None)
            for index, content in enumerate(contents)
        )

    def _judged_alone(self, content: bytes) -> tuple[int, Headers | None, Action | None]:
        found: Headers | None = None
        try:
            found = headers(content)
            check_headers(found)
            self._check_creator(found)
            if found.channel_header.type == common_pb2.ENDORSER_TRANSACTION:
                return Codes.VALID, found, self._endorsed(found)
            if found.channel_header.type == common_pb2.CONFIG:
                self.config = self._updated_config(found)
                return Codes.VALID, found, None
            return Codes.UNSUPPORTED_TX_PAYLOAD, found, None
        except InvalidTransaction as invalid:
            return invalid.code, found, None

    def _replayed(self, content: bytes, code: int) -> tuple[int, Headers | None, Action | None]:
        """What is already judged, taken apart only as far as its effects need."""
        if code != Codes.VALID:
            return code, None, None
        found = headers(content)
        if found.channel_header.type == common_pb2.CONFIG:
            self.config = _config_envelope(found).config
            return code, found, None
        return code, found, action(found, endorsed_action(found))

    def _updated_config(self, found: Headers) -> Any:
        """The configuration, if it follows from the present one. Who had to sign it was asked by the orderer."""
        envelope = _config_envelope(found)
        try:
            expected = update.apply(self._ledger.config, _config_update(envelope))
        except (ConfigurationInvalid, DecodeError) as error:
            raise InvalidTransaction(Codes.INVALID_CONFIG_TRANSACTION, str(error)) from error
        if expected != envelope.config:
            raise InvalidTransaction(Codes.INVALID_CONFIG_TRANSACTION, "the update does not give the configuration")
        return envelope.config

    def _judged_in_order(
        self, version: Version, content: bytes, code: int, found: Headers | None, act: Action | None, replayed: bool
    ) -> ValidatedTransaction:
        if code == Codes.VALID and act is not None:
            code = Codes.VALID if replayed else self.state.check(act.rwset)
            if code == Codes.VALID:
                self.state.apply(act.rwset, version)
        tx_id = recorded_transaction_id(content) if found is None else _transaction_id(found, content)
        return ValidatedTransaction(
            index=version.transaction,
            tx_id=tx_id,
            type=-1 if found is None else found.channel_header.type,
            code=code,
            event=b"" if act is None else act.event,
            chaincode="" if act is None else act.chaincode,
            private_hashes=_private_hashes(act) if code == Codes.VALID and act is not None else {},
        )

    def _check_creator(self, found: Headers) -> None:
        creator, signature = found.signature_header.creator, found.envelope.signature
        try:
            if found.channel_header.channel_id != self._channel:
                raise InvalidTransaction(Codes.BAD_CREATOR_SIGNATURE, "another channel")
            identity = self._msps.validate(creator)
        except IdentityError as error:
            raise InvalidTransaction(Codes.BAD_CREATOR_SIGNATURE, error.reason) from error
        if not self._msps.verify(identity, found.envelope.payload, signature):
            raise InvalidTransaction(Codes.BAD_CREATOR_SIGNATURE, "not signed by its creator")

    def _endorsed(self, found: Headers) -> Action:
        check_transaction_id(found)
        endorsed = endorsed_action(found)
        tx_id = found.channel_header.tx_id
        if self._ledger.validation_code(tx_id) is not None:
            raise InvalidTransaction(Codes.DUPLICATE_TXID, "the transaction is already in the chain")
        act = action(found, endorsed)
        self._check_endorsements(act)
        if tx_id in self._seen:
            raise InvalidTransaction(Codes.DUPLICATE_TXID, "the transaction is already in the block")
        self._seen.add(tx_id)
        return act

    def _check_endorsements(self, act: Action) -> None:
        endorsers = self._endorsers(act)
        for part in judged_parts(act.rwset, act.chaincode):
            policy = self._policy_of_chaincode(part.namespace)
            if policy is None:
                raise InvalidTransaction(Codes.INVALID_CHAINCODE, "the chaincode is not defined")
            self._check_namespace(part, policy, endorsers)

    def _check_namespace(self, part: rwset.NamespaceRwset, policy: Any, endorsers: Sequence[VerifiedIdentity]) -> None:
        try:
            required = required_policies(part, policy, self._policy_of_key, self._policies.collection_policy)
            satisfied = all(self._policies.evaluate(wanted, endorsers) for wanted in required)
        except PolicyError as error:
            raise InvalidTransaction(Codes.ENDORSEMENT_POLICY_FAILURE, str(error)) from error
        if not satisfied:
            raise InvalidTransaction(Codes.ENDORSEMENT_POLICY_FAILURE, "not enough endorsements")
        self._changed_policies.update(keys_with_changed_metadata(part))

    def _endorsers(self, act: Action) -> list[VerifiedIdentity]:
        """Those whose signature holds; what does not hold is as if it were not there."""
        found = []
        for endorsement in act.endorsements:
            try:
                identity = self._msps.validate(endorsement.endorser)
            except IdentityError:
                continue
            if self._msps.verify(identity, act.signed + endorsement.endorser, endorsement.signature):
                found.append(identity)
        return found

    def _policy_of_key(self, key: WrittenKey) -> Any | None:
        if key in self._changed_policies:
            raise PolicyJustChanged("the key's policy was changed by an earlier transaction of the block")
        return committed_policy_of_key(self._snapshot, key)

    def _policy_of_chaincode(self, namespace: str) -> Any | None:
        if namespace == lifecycle.NAMESPACE:
            return lifecycle.POLICY
        if namespace not in self._chaincode_policies:
            definition = lifecycle.definition_at(self._snapshot, namespace)
            self._chaincode_policies[namespace] = None if definition is None else definition.policy
        return self._chaincode_policies[namespace]


def _config_envelope(found: Headers) -> Any:
    try:
        return configtx_pb2.ConfigEnvelope.FromString(found.payload.data)
    except DecodeError as error:
        raise InvalidTransaction(Codes.INVALID_CONFIG_TRANSACTION, "malformed configuration") from error


def _config_update(envelope: Any) -> Any:
    payload = common_pb2.Payload.FromString(envelope.last_update.payload)
    signed = configtx_pb2.ConfigUpdateEnvelope.FromString(payload.data)
    return configtx_pb2.ConfigUpdate.FromString(signed.config_update)


def _transaction_id(found: Headers, content: bytes) -> str:
    return str(found.channel_header.tx_id) or recorded_transaction_id(content)


def _private_hashes(act: Action) -> dict[tuple[str, str], bytes]:
    return {
        (part.namespace, collection.collection): collection.private_hash
        for part in act.rwset
        for collection in part.collections
        if collection.private_hash
    }


def _complete_metadata(block: Any, codes: bytes, commit_hash: bytes) -> None:
    entries = [*block.metadata.metadata]
    entries += [b""] * (METADATA_ENTRIES - len(entries))
    entries[common_pb2.TRANSACTIONS_FILTER] = codes
    entries[common_pb2.COMMIT_HASH] = commit_hash_metadata(commit_hash) if commit_hash else b""
    del block.metadata.metadata[:]
    block.metadata.metadata.extend(entries)
