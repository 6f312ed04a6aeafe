"""Configuration updates on their way: signed by one organization after another, then submitted by one.

A signature is over the signature header and the update's bytes (`common/configtx/update.go`), so signers need nothing
but the update. The detached form is a serialized `common.ConfigSignature`, which a file can carry.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from fabric_protos.common import common_pb2, configtx_pb2, policies_pb2
from fabric_protos.msp import identities_pb2

from hlf import policies
from hlf.admin import update
from hlf.admin.errors import ConfigurationInvalid, SignaturesMissing
from hlf.gateway.headers import NONCE_BYTES, new_headers
from hlf.identity import Signer


def sign(config_update: bytes, signer: Signer) -> bytes:
    """A detached signature over a serialized `common.ConfigUpdate`: a serialized `common.ConfigSignature`."""
    header = common_pb2.SignatureHeader(creator=signer.serialized, nonce=os.urandom(NONCE_BYTES)).SerializeToString()
    signature = configtx_pb2.ConfigSignature(signature_header=header, signature=signer.sign(header + config_update))
    return bytes(signature.SerializeToString())


def signer_of(signature: bytes) -> str:
    """The MSP id of whoever made a detached signature. ConfigurationInvalid if it is malformed."""
    try:
        header = configtx_pb2.ConfigSignature.FromString(signature).signature_header
        creator = common_pb2.SignatureHeader.FromString(header).creator
        return str(identities_pb2.SerializedIdentity.FromString(creator).mspid)
    except Exception as error:
        raise ConfigurationInvalid(["not a signature of a configuration update"]) from error


def envelope(channel: str, config_update: bytes, signatures: Sequence[bytes], sender: Signer) -> Any:
    """The signed `common.Envelope` that orderers take. The sender must be one of the channel's Writers."""
    signed = [configtx_pb2.ConfigSignature.FromString(signature) for signature in signatures]
    data = configtx_pb2.ConfigUpdateEnvelope(config_update=config_update, signatures=signed)
    headers = new_headers(sender, channel, common_pb2.CONFIG_UPDATE)
    header = common_pb2.Header.FromString(headers.serialized)
    payload = common_pb2.Payload(header=header, data=data.SerializeToString()).SerializeToString()
    return common_pb2.Envelope(payload=payload, signature=sender.sign(payload))


def require(config: Any, config_update: Any, signers: Iterable[str]) -> None:
    """Raises SignaturesMissing if administrators of the MSPs `signers` cannot together make this update.

    Counts organizations and takes each signer for an administrator; the orderers check the certificates themselves.
    """
    signed = set(signers)
    for path in sorted({policy for _, policy in update.changed_elements(config, config_update)}):
        group, name = _resolve(config.channel_group, path)
        if not _is_satisfied(group, name, signed):
            raise SignaturesMissing(path, sorted(_principals(group, name) - signed))


def _resolve(channel: Any, path: str) -> tuple[Any, str]:
    *groups, name = path.strip("/").split("/")[1:]
    group = channel
    for step in groups:
        group = group.groups[step]
    return group, name


def _is_satisfied(group: Any, name: str, signed: set[str]) -> bool:
    policy = group.policies[name].policy
    if policy.type == policies_pb2.Policy.SIGNATURE:
        rule = policies_pb2.SignaturePolicyEnvelope.FromString(policy.value)
        return _is_rule_satisfied(rule.rule, policies.members(policy.value), signed)
    meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
    satisfied = sum(_is_satisfied(child, meta.sub_policy, signed) for child in group.groups.values())
    return bool(satisfied >= policies.threshold(meta.rule, len(group.groups)))


def _is_rule_satisfied(rule: Any, members: Sequence[str], signed: set[str]) -> bool:
    if rule.WhichOneof("Type") == "signed_by":
        return members[rule.signed_by] in signed
    return bool(sum(_is_rule_satisfied(part, members, signed) for part in rule.n_out_of.rules) >= rule.n_out_of.n)


def _principals(group: Any, name: str) -> set[str]:
    policy = group.policies[name].policy
    if policy.type == policies_pb2.Policy.SIGNATURE:
        return set(policies.members(policy.value))
    meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
    return {member for child in group.groups.values() for member in _principals(child, meta.sub_policy)}
