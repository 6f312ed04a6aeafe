"""Endorsement policies: what a set of identities satisfies, and which organizations could satisfy one.

Signature policies consume an identity once, gate by gate, as Fabric's `common/cauthdsl` does; implicit-meta policies
count the organizations whose own policy of that name is satisfied (`common/policies/implicitmeta.go`).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import policy_pb2
from google.protobuf.message import DecodeError
from hlf import policies
from hlf.channel_config import IMPLICIT_PREFIX, application_organizations

from hlf_devnet.identities import VerifiedIdentity, least_recently_used
from hlf_devnet.msp import IdentityError, MspRegistry

_ROLE_NAMES = {number: name.lower() for name, number in msp_principal_pb2.MSPRole.MSPRoleType.items()}

Rule = Callable[[Sequence[VerifiedIdentity], list[bool]], bool]


__all__ = [
    "IMPLICIT_PREFIX",
    "ChannelPolicies",
    "PolicyError",
    "channel_policy",
    "key_level_policy",
    "signature_policy",
]


class PolicyError(Exception):
    """A policy that is malformed or does not exist in the channel's configuration."""


class ChannelPolicies:
    """The policies of a channel's configuration, and signature policies over its organizations.

    Every `policy` argument is one of: bytes of a `peer.ApplicationPolicy` (as in a chaincode definition), a
    `common.SignaturePolicyEnvelope` message, or the path of a channel policy such as
    `/Channel/Application/Endorsement`. Key-level policies (bytes of a SignaturePolicyEnvelope) go through
    `key_level_policy` first.
    """

    def __init__(self, config: Any, msps: MspRegistry) -> None:
        """`config`: the `common.Config` of a configuration block (`hlf.channel_config.config_of`)."""
        self._msps = msps
        self._root = config.channel_group
        self._organizations = application_organizations(config)
        self._compiled: dict[bytes, Rule] = {}
        self._channel_rules: dict[str, Rule] = {}

    @property
    def application_organizations(self) -> tuple[str, ...]:
        """MSP ids, ascending."""
        return self._organizations

    def evaluate(self, policy: Any, identities: Sequence[VerifiedIdentity]) -> bool:
        """Whether `identities` (each of one verified signature) satisfy `policy`. PolicyError if malformed."""
        distinct = list({identity.fingerprint: identity for identity in identities}.values())
        return self._evaluate(policy, distinct)

    def check_all(self) -> None:
        """PolicyError if a policy of the configuration is malformed."""
        self._check_group(self._root)

    def _check_group(self, group: Any) -> None:
        for name in group.policies:
            self._config_rule(group, name)
        for child in group.groups.values():
            self._check_group(child)

    def why_not(self, path: str, identities: Sequence[VerifiedIdentity]) -> str | None:
        """Why `identities` do not satisfy the channel policy `path`, in Fabric's words; None if they do. PolicyError if
        there is no such policy."""
        if self.evaluate(path, identities):
            return None
        group, name = self._group(path)
        policy = group.policies[name].policy
        if policy.type == policies_pb2.Policy.SIGNATURE:
            return "signature set did not satisfy policy"
        meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
        parts = [f"{path.rpartition('/')[0]}/{child}/{meta.sub_policy}" for child in group.groups]
        satisfied = sum(self._is_satisfied(part, identities) for part in parts)
        return (
            f"implicit policy evaluation failed - {satisfied} sub-policies were satisfied, but this policy requires "
            f"{policies.threshold(meta.rule, len(parts))} of the '{meta.sub_policy}' sub-policies to be satisfied"
        )

    def _is_satisfied(self, path: str, identities: Sequence[VerifiedIdentity]) -> bool:
        try:
            return self.evaluate(path, identities)
        except PolicyError:
            return False

    def required_org_sets(self, policies: Iterable[Any]) -> list[frozenset[str]]:
        """The smallest sets of organizations whose peers' endorsements satisfy all `policies` together, smallest
        first, then by name; empty when no set does."""
        wanted = list(policies)
        members = self.application_organizations
        found: list[frozenset[str]] = []
        for size in range(len(members) + 1):
            for chosen in map(frozenset, combinations(members, size)):
                if not any(smaller <= chosen for smaller in found) and self._peers_satisfy(wanted, chosen):
                    found.append(chosen)
        return found

    def collection_policy(self, collection: str) -> str:
        """The path of the policy of an implicit collection. PolicyError unless it is one of the channel's."""
        msp_id = collection.removeprefix(IMPLICIT_PREFIX)
        if msp_id == collection or msp_id not in self._organizations:
            raise PolicyError(f"no collection {collection}")
        return f"/Channel/Application/{msp_id}/Endorsement"

    def _peers_satisfy(self, policies: Sequence[Any], members: Iterable[str]) -> bool:
        peers = [_AnyPeer(msp_id) for msp_id in sorted(members)]
        return all(self._evaluate(policy, peers) for policy in policies)

    def _evaluate(self, policy: Any, identities: Sequence[Any]) -> bool:
        if isinstance(policy, bytes):
            policy = application_policy(policy)
        rule = self._channel_rule(policy) if isinstance(policy, str) else self._signature_rule(policy)
        return rule(identities, [False] * len(identities))

    def _channel_rule(self, path: str) -> Rule:
        rule = self._channel_rules.get(path)
        if rule is None:
            group, name = self._group(path)
            rule = self._config_rule(group, name)
            if rule is None:
                raise PolicyError(f"no policy {path}")
            self._channel_rules[path] = rule
        return rule

    def _config_rule(self, group: Any, name: str) -> Rule | None:
        if name not in group.policies:
            return None
        policy = group.policies[name].policy
        if policy.type == policies_pb2.Policy.SIGNATURE:
            return self._signature_rule(policies_pb2.SignaturePolicyEnvelope.FromString(policy.value))
        if policy.type != policies_pb2.Policy.IMPLICIT_META:
            raise PolicyError(f"policy type {policy.type} is not supported")
        meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
        parts = [self._config_rule(part, meta.sub_policy) for part in group.groups.values()]
        return _enough([part for part in parts if part is not None], policies.threshold(meta.rule, len(parts)))

    def _group(self, path: str) -> tuple[Any, str]:
        first, *groups, name = path.removeprefix("/").split("/")
        group = self._root
        for part in groups:
            if part not in group.groups:
                raise PolicyError(f"no policy {path}")
            group = group.groups[part]
        if first != "Channel" or not path.startswith("/"):
            raise PolicyError(f"no policy {path}")
        return group, name

    def _signature_rule(self, envelope: Any) -> Rule:
        key = envelope.SerializeToString(deterministic=True)
        rule = self._compiled.get(key)
        if rule is None:
            if envelope.version != 0:
                raise PolicyError(f"signature policy version {envelope.version} is not supported")
            rule = _compile(envelope.rule, [self._principal(principal) for principal in envelope.identities])
            least_recently_used(self._compiled, key, rule)
        return rule

    def _principal(self, principal: Any) -> Callable[[Any], bool]:
        kinds = msp_principal_pb2.MSPPrincipal
        kind, content = principal.principal_classification, principal.principal
        try:
            if kind == kinds.ROLE:
                role = msp_principal_pb2.MSPRole.FromString(content)
                return _has_role(role.msp_identifier, _ROLE_NAMES[role.role])
            if kind == kinds.ORGANIZATION_UNIT:
                return _has_unit(msp_principal_pb2.OrganizationUnit.FromString(content))
            if kind == kinds.IDENTITY:
                return self._is_identity(content)
            if kind == kinds.COMBINED:
                parts = msp_principal_pb2.CombinedPrincipal.FromString(content).principals
                checks = [self._principal(part) for part in parts]
                return lambda identity: bool(checks) and all(check(identity) for check in checks)
        except (DecodeError, KeyError) as error:
            raise PolicyError("malformed principal") from error
        raise PolicyError(f"principal classification {kind} is not supported")

    def _is_identity(self, serialized: bytes) -> Callable[[Any], bool]:
        def check(identity: Any) -> bool:
            try:
                return bool(self._msps.validate(serialized).fingerprint == identity.fingerprint)
            except IdentityError:
                return False

        return check


class _AnyPeer:
    """Stands for whichever peer of an organization will endorse, when endorsements are planned."""

    roles = frozenset(("peer",))
    organizational_units = ()
    chain_identifier = b""

    def __init__(self, msp_id: str) -> None:
        self.msp_id = msp_id
        self.fingerprint = msp_id.encode()


def application_policy(content: bytes) -> Any:
    """Bytes of a `peer.ApplicationPolicy` → a SignaturePolicyEnvelope or the path of a channel policy."""
    try:
        policy = policy_pb2.ApplicationPolicy.FromString(content)
    except DecodeError as error:
        raise PolicyError("not an application policy") from error
    kind = policy.WhichOneof("Type")
    if kind == "signature_policy":
        return policy.signature_policy
    if kind == "channel_config_policy_reference":
        return policy.channel_config_policy_reference
    raise PolicyError("an application policy of unknown type")


def key_level_policy(validation_parameter: bytes) -> Any:
    """The policy in a key's VALIDATION_PARAMETER (a serialized SignaturePolicyEnvelope). PolicyError if malformed."""
    try:
        return policies_pb2.SignaturePolicyEnvelope.FromString(validation_parameter)
    except DecodeError as error:
        raise PolicyError("the key's validation parameter is not a signature policy") from error


def signature_policy(text: str) -> bytes:
    """`AND('A.peer','B.peer')` → bytes of the `peer.ApplicationPolicy` that a chaincode definition holds."""
    envelope = policies_pb2.SignaturePolicyEnvelope.FromString(policies.parse(text))
    return bytes(policy_pb2.ApplicationPolicy(signature_policy=envelope).SerializeToString(deterministic=True))


def channel_policy(path: str) -> bytes:
    """`/Channel/Application/Endorsement` → bytes of the `peer.ApplicationPolicy` that refers to it."""
    return bytes(policy_pb2.ApplicationPolicy(channel_config_policy_reference=path).SerializeToString())


def _compile(rule: Any, principals: Sequence[Callable[[Any], bool]]) -> Rule:
    kind = rule.WhichOneof("Type")
    if kind == "signed_by":
        if not 0 <= rule.signed_by < len(principals):
            raise PolicyError("the signature policy refers to a principal that it does not hold")
        return _signed_by(principals[rule.signed_by])
    if kind == "n_out_of":
        return _n_out_of(rule.n_out_of.n, [_compile(part, principals) for part in rule.n_out_of.rules])
    raise PolicyError("an empty rule in a signature policy")


def _signed_by(principal: Callable[[Any], bool]) -> Rule:
    def rule(identities: Sequence[Any], used: list[bool]) -> bool:
        for index, identity in enumerate(identities):
            if not used[index] and principal(identity):
                used[index] = True
                return True
        return False

    return rule


def _n_out_of(n: int, parts: Sequence[Rule]) -> Rule:
    def rule(identities: Sequence[Any], used: list[bool]) -> bool:
        satisfied = 0
        for part in parts:
            attempt = used.copy()
            if part(identities, attempt):
                satisfied += 1
                used[:] = attempt
        return satisfied >= n

    return rule


def _enough(parts: Sequence[Rule], threshold: int) -> Rule:
    """Each part sees all identities: one may count for several organizations' policies."""

    def rule(identities: Sequence[Any], used: list[bool]) -> bool:
        return sum(part(identities, used.copy()) for part in parts) >= threshold

    return rule


def _has_role(msp_id: str, role: str) -> Callable[[Any], bool]:
    if role == "member":
        return lambda identity: bool(identity.msp_id == msp_id)
    return lambda identity: bool(identity.msp_id == msp_id and role in identity.roles)


def _has_unit(unit: Any) -> Callable[[Any], bool]:
    msp_id, name, certifier = unit.msp_identifier, unit.organizational_unit_identifier, unit.certifiers_identifier
    return lambda identity: bool(
        identity.msp_id == msp_id and name in identity.organizational_units and identity.chain_identifier == certifier
    )
