"""Signature policies: who must have signed, as a tree of "n out of these" over principals.

The text form is the one of Fabric's tools (`common/policydsl`): `AND('A.peer','B.peer')`, `OR(…)`, `OutOf(2, …)`,
nested as wanted; roles are member, admin, client, peer, orderer.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from google.protobuf.message import DecodeError

Principal = tuple[str, str]
"""An MSP id and a role."""

_ROLES = {
    "member": msp_principal_pb2.MSPRole.MEMBER,
    "admin": msp_principal_pb2.MSPRole.ADMIN,
    "client": msp_principal_pb2.MSPRole.CLIENT,
    "peer": msp_principal_pb2.MSPRole.PEER,
    "orderer": msp_principal_pb2.MSPRole.ORDERER,
}
_ROLE_NAMES = {number: name for name, number in _ROLES.items()}
_TOKEN = re.compile(
    r"\s*(?:(?P<gate>AND|OR|OutOf)\b|(?P<number>\d+)|(?P<quoted>'[^']*'|\"[^\"]*\")|(?P<mark>[(),]))", re.I
)


def signature_policy(n: int, principals: Sequence[Principal]) -> bytes:
    """A serialized `common.SignaturePolicyEnvelope`: `n` of `principals` must sign. ValueError on an unknown role or
    an `n` that cannot be met."""
    identities: list[Principal] = []
    rule = _n_out_of(n, [_signed_by(principal, identities) for principal in principals])
    return _envelope(rule, identities)


def parse(text: str) -> bytes:
    """The serialized `common.SignaturePolicyEnvelope` of a policy in text form. ValueError if it is malformed."""
    parser = _Parser(text)
    rule = parser.rule()
    parser.end()
    return _envelope(rule, parser.identities)


def describe(envelope: bytes) -> str:
    """The text form of a serialized `common.SignaturePolicyEnvelope`: `parse(describe(p))` means the same as `p`.

    ValueError if it is malformed or names principals other than roles.
    """
    try:
        message = policies_pb2.SignaturePolicyEnvelope.FromString(envelope)
        principals = [_principal(identity) for identity in message.identities]
        return _describe(message.rule, [f"'{msp_id}.{role}'" for msp_id, role in principals])
    except (DecodeError, IndexError, KeyError) as error:
        raise ValueError("the policy names a principal that it does not hold or that is no role") from error


def members(envelope: bytes) -> tuple[str, ...]:
    """The MSP ids of the principals of a serialized `common.SignaturePolicyEnvelope`, in the order in which its rule
    counts them. ValueError if it is malformed or names principals other than roles."""
    try:
        message = policies_pb2.SignaturePolicyEnvelope.FromString(envelope)
        return tuple(_principal(identity)[0] for identity in message.identities)
    except (DecodeError, KeyError) as error:
        raise ValueError("the policy is malformed or names a principal that is no role") from error


def threshold(rule: int, groups: int) -> int:
    """How many of `groups` sub-policies an `ImplicitMetaPolicy.Rule` asks for (`common/policies/implicitmeta.go`).
    ValueError if the rule is none."""
    rules = policies_pb2.ImplicitMetaPolicy
    needed = {rules.ANY: min(1, groups), rules.ALL: groups, rules.MAJORITY: groups // 2 + 1 if groups else 0}
    if rule not in needed:
        raise ValueError(f"unknown rule {rule} of an implicit policy")
    return needed[rule]


def _signed_by(principal: Principal, identities: list[Principal]) -> Any:
    if principal[1] not in _ROLES:
        raise ValueError(f"unknown role {principal[1]!r}")
    if principal not in identities:
        identities.append(principal)
    return policies_pb2.SignaturePolicy(signed_by=identities.index(principal))


def _n_out_of(n: int, rules: Iterable[Any]) -> Any:
    rule = policies_pb2.SignaturePolicy.NOutOf(n=n, rules=rules)
    if not 0 < n <= len(rule.rules):
        raise ValueError(f"{n} out of {len(rule.rules)} cannot be met")
    return policies_pb2.SignaturePolicy(n_out_of=rule)


def _envelope(rule: Any, identities: Sequence[Principal]) -> bytes:
    envelope = policies_pb2.SignaturePolicyEnvelope(
        version=0, rule=rule, identities=[_msp_principal(*principal) for principal in identities]
    )
    return bytes(envelope.SerializeToString(deterministic=True))


def _msp_principal(msp_id: str, role: str) -> Any:
    return msp_principal_pb2.MSPPrincipal(
        principal_classification=msp_principal_pb2.MSPPrincipal.ROLE,
        principal=msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=_ROLES[role]).SerializeToString(),
    )


def _principal(message: Any) -> Principal:
    if message.principal_classification != msp_principal_pb2.MSPPrincipal.ROLE:
        raise KeyError(message.principal_classification)
    role = msp_principal_pb2.MSPRole.FromString(message.principal)
    return role.msp_identifier, _ROLE_NAMES[role.role]


def _describe(rule: Any, principals: Sequence[str]) -> str:
    if rule.WhichOneof("Type") != "n_out_of":
        return str(principals[rule.signed_by])
    parts = [_describe(part, principals) for part in rule.n_out_of.rules]
    n = int(rule.n_out_of.n)
    if n == len(parts):
        return f"AND({','.join(parts)})"
    return f"OR({','.join(parts)})" if n == 1 else f"OutOf({n},{','.join(parts)})"


class _Parser:
    def __init__(self, text: str) -> None:
        self.identities: list[Principal] = []
        self._text = text
        self._position = 0

    def rule(self) -> Any:
        kind, token = self._next()
        if kind == "quoted":
            msp_id, dot, role = token[1:-1].rpartition(".")
            if not dot or not msp_id:
                self._fail()
            return _signed_by((msp_id, role.lower()), self.identities)
        if kind != "gate":
            self._fail()
        self._expect("(")
        n = self._count() if token.lower() == "outof" else None
        rules = self._rules()
        return _n_out_of(n if n is not None else {"and": len(rules), "or": 1}[token.lower()], rules)

    def end(self) -> None:
        if self._text[self._position :].strip():
            self._fail()

    def _rules(self) -> list[Any]:
        rules = [self.rule()]
        while self._next()[1] == ",":
            rules.append(self.rule())
        if self._text[self._position - 1] != ")":
            self._fail()
        return rules

    def _count(self) -> int:
        kind, token = self._next()
        if kind != "number":
            self._fail()
        self._expect(",")
        return int(token)

    def _expect(self, mark: str) -> None:
        if self._next()[1] != mark:
            self._fail()

    def _next(self) -> tuple[str, str]:
        match = _TOKEN.match(self._text, self._position)
        if match is None or match.lastgroup is None:
            self._fail()
        self._position = match.end()
        return match.lastgroup, match.group(match.lastgroup)

    def _fail(self) -> NoReturn:
        raise ValueError(f"malformed signature policy at character {self._position}")
