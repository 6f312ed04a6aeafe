"""Who made a block: the orderers' signatures, checked against the channel's configuration.

Hashes show that blocks form a chain; only these signatures show that it is the channel's own, whichever peer it came
from. The rule is the channel's policy /Channel/Orderer/BlockValidation (`protoutil/blockutils.go`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fabric_protos.common import common_pb2, policies_pb2
from fabric_protos.common import configuration_pb2 as channel_configuration_pb2
from fabric_protos.msp import msp_principal_pb2
from google.protobuf.message import DecodeError

from hlf.blocks import Block, block_header_bytes
from hlf.channel_config import config_in, members, section
from hlf.identity import Identity
from hlf.msp import Msp
from hlf.policies import threshold

Principals = Callable[[Identity, Any], bool]


class OrdererSignatures:
    """Verifies blocks one after the other, for `deliver` and `follow`; it adopts each new configuration it has
    verified. It starts from a configuration block that the caller trusts, such as the channel's genesis block."""

    def __init__(self, trusted: Block) -> None:
        """ValueError if `trusted` holds no channel configuration."""
        configuration = _Configuration.from_block(trusted)
        if configuration is None:
            raise ValueError(f"block {trusted.number} is no configuration block")
        self._configuration = configuration
        self._trusted = trusted

    def verify(self, block: Block) -> None:
        """ValueError unless enough orderers signed `block`. A block before the trusted one is refused: another
        configuration may have counted then."""
        if block.number <= self._trusted.number:
            if block.number < self._trusted.number or block.header_hash != self._trusted.header_hash:
                raise ValueError(f"block {block.number} is not the trusted configuration block, nor after it")
            return
        try:
            is_signed = self._configuration.is_signed(block)
        except (DecodeError, IndexError) as error:
            raise ValueError(f"the signatures of block {block.number} cannot be read") from error
        if not is_signed:
            raise ValueError(f"block {block.number} is not signed by the orderers that the channel requires")
        if all(transaction.is_valid for transaction in block.transactions):
            self._configuration = _Configuration.from_block(block) or self._configuration


@dataclass(frozen=True)
class _Configuration:
    """The orderers' part of a channel's configuration."""

    group: Any
    msps: Mapping[str, Msp]
    consenters: Mapping[int, Identity]

    @classmethod
    def from_block(cls, block: Block) -> Self | None:
        """None if the block holds no configuration."""
        if not block.transactions or block.transactions[0].type != common_pb2.CONFIG:
            return None
        try:
            return cls.from_group(section(config_in(block.message), "Orderer"))
        except ValueError as error:
            raise ValueError(f"the configuration in block {block.number} cannot be read") from error

    @classmethod
    def from_group(cls, group: Any) -> Self:
        orderers = channel_configuration_pb2.Orderers.FromString(group.values["Orderers"].value)
        consenters = {
            consenter.id: Identity(consenter.msp_id, consenter.identity) for consenter in orderers.consenter_mapping
        }
        return cls(group, members(group), consenters)

    def is_signed(self, block: Block) -> bool:
        signers = [identity for identity in self._signers(block) if self._is_member(identity)]
        return _is_met(self.group, "BlockValidation", signers, self._satisfies)

    def _signers(self, block: Block) -> list[Identity]:
        """Everyone who made a good signature, each once."""
        metadata = common_pb2.Metadata.FromString(block.message.metadata.metadata[common_pb2.SIGNATURES])
        header = block_header_bytes(block.number, block.previous_hash, block.data_hash)
        found: list[Identity] = []
        for entry in metadata.signatures:
            identity, opening = self._signer(entry)
            if (
                identity
                and identity not in found
                and identity.verify(entry.signature, metadata.value + opening + header)
            ):
                found.append(identity)
        return found

    def _signer(self, entry: Any) -> tuple[Identity | None, bytes]:
        """Who claims to have signed, and the bytes of that claim. BFT orderers name themselves by number."""
        if entry.signature_header:
            header = common_pb2.SignatureHeader.FromString(entry.signature_header)
            return Identity.from_serialized(header.creator), entry.signature_header
        number = common_pb2.IdentifierHeader.FromString(entry.identifier_header).identifier
        return self.consenters.get(number), entry.identifier_header

    def _is_member(self, identity: Identity) -> bool:
        msp = self.msps.get(identity.msp_id)
        return msp is not None and msp.has_member(identity)

    def _satisfies(self, identity: Identity, principal: Any) -> bool:
        kind = msp_principal_pb2.MSPPrincipal
        if principal.principal_classification == kind.IDENTITY:
            return identity == Identity.from_serialized(principal.principal)
        if principal.principal_classification != kind.ROLE:
            return False
        role = msp_principal_pb2.MSPRole.FromString(principal.principal)
        return role.msp_identifier == identity.msp_id and self.msps[identity.msp_id].has_role(identity, role.role)


def _is_met(group: Any, name: str, signers: Sequence[Identity], satisfies: Principals) -> bool:
    """Whether `signers` meet the policy `name` of a configuration group; no when there is none of that name."""
    policy = group.policies[name].policy if name in group.policies else policies_pb2.Policy()
    if policy.type == policies_pb2.Policy.SIGNATURE:
        envelope = policies_pb2.SignaturePolicyEnvelope.FromString(policy.value)
        return _matched(envelope.rule, envelope.identities, signers, frozenset(), satisfies) is not None
    if policy.type != policies_pb2.Policy.IMPLICIT_META:
        return False
    meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
    met = sum(_is_met(part, meta.sub_policy, signers, satisfies) for part in group.groups.values())
    return met >= threshold(meta.rule, len(group.groups))


def _matched(
    rule: Any, principals: Sequence[Any], signers: Sequence[Identity], used: frozenset[int], satisfies: Principals
) -> frozenset[int] | None:
    """The positions of signers used up so far and by `rule`; None if it is not met. Each signer counts once."""
    if rule.WhichOneof("Type") == "signed_by":
        fitting = (
            position
            for position, identity in enumerate(signers)
            if position not in used and satisfies(identity, principals[rule.signed_by])
        )
        position = next(fitting, None)
        return None if position is None else used | {position}
    met = 0
    for part in rule.n_out_of.rules:
        if (after := _matched(part, principals, signers, used, satisfies)) is not None:
            used, met = after, met + 1
    return used if met >= rule.n_out_of.n else None
