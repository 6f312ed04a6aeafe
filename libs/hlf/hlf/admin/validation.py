"""Looks over a channel configuration before anything is signed.

Fabric accepts, at genesis and in updates, configurations that can never be changed again or that no transaction can
satisfy. This module does not.
"""

import re
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_config_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.orderer.etcdraft import configuration_pb2 as raft_pb2

from hlf import certs
from hlf.admin.errors import ConfigurationInvalid
from hlf.admin.msp import MspDefinition

_MSP_ID = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,62}")
_TIMEOUT = re.compile(r"([1-9]\d*)(ms|s|m)")
_ORGANIZATION_POLICIES = {
    "Application": ("Readers", "Writers", "Admins", "Endorsement"),
    "Orderer": ("Readers", "Writers", "Admins"),
}
_SECTION_POLICIES = {
    "Application": ("Readers", "Writers", "Admins", "LifecycleEndorsement", "Endorsement"),
    "Orderer": ("Readers", "Writers", "Admins", "BlockValidation"),
}
_SECTION_VALUES = {
    "Application": ("Capabilities",),
    "Orderer": ("ConsensusType", "BatchSize", "BatchTimeout", "Capabilities"),
}
_CHANNEL_VALUES = ("HashingAlgorithm", "BlockDataHashingStructure", "Capabilities")


def check(config: Any) -> None:
    """Raises ConfigurationInvalid with every problem of a `common.Config`, or returns."""
    problems = list(_problems(config.channel_group))
    if problems:
        raise ConfigurationInvalid(problems)


def is_msp_id(text: str) -> bool:
    """Whether `text` may be an MSP id: Fabric's own group names are held to this form."""
    return _MSP_ID.fullmatch(text) is not None


def _problems(channel: Any) -> Iterator[str]:
    yield from _unchangeable(channel, "/Channel")
    yield from _missing(channel.values, _CHANNEL_VALUES, "/Channel", "value")
    yield from _missing(channel.policies, ("Readers", "Writers", "Admins"), "/Channel", "policy")
    yield from _missing(channel.groups, ("Orderer", "Application"), "/Channel", "group")
    for section in ("Orderer", "Application"):
        if section in channel.groups:
            yield from _section_problems(section, channel.groups[section])
    if "Orderer" in channel.groups:
        yield from _orderer_problems(channel.groups["Orderer"])


def _section_problems(section: str, group: Any) -> Iterator[str]:
    path = f"/Channel/{section}"
    yield from _missing(group.values, _SECTION_VALUES[section], path, "value")
    yield from _missing(group.policies, _SECTION_POLICIES[section], path, "policy")
    if not group.groups:
        yield f"{path} has no organization"
    for name, organization in sorted(group.groups.items()):
        yield from _organization_problems(section, name, organization)


def _organization_problems(section: str, name: str, group: Any) -> Iterator[str]:
    path = f"/Channel/{section}/{name}"
    if not is_msp_id(name):
        yield f"{path}: not a well-formed MSP id"
    yield from _missing(group.policies, _ORGANIZATION_POLICIES[section], path, "policy")
    yield from _missing(group.values, ("MSP",) if section == "Application" else ("MSP", "Endpoints"), path, "value")
    if "MSP" in group.values:
        yield from _msp_problems(path, name, group.values["MSP"].value)


def _msp_problems(path: str, name: str, value: bytes) -> Iterator[str]:
    msp = MspDefinition.from_config(msp_config_pb2.MSPConfig.FromString(value))
    if msp.msp_id != name:
        yield f"{path}: its MSP is named {msp.msp_id!r}"
    if not msp.root_certs or not msp.tls_root_certs:
        yield f"{path}: an MSP needs root certificates for identities and for TLS"
    for pem in (*msp.root_certs, *msp.intermediate_certs, *msp.tls_root_certs):
        try:
            if not _is_authority(certs.certificate_from_pem(pem)):
                yield f"{path}: a root certificate is not one of a certificate authority"
        except ValueError:
            yield f"{path}: a root certificate cannot be read"


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _orderer_problems(group: Any) -> Iterator[str]:
    path = "/Channel/Orderer"
    timeout = orderer_pb2.BatchTimeout.FromString(group.values["BatchTimeout"].value).timeout
    if _TIMEOUT.fullmatch(timeout) is None:
        yield f"{path}: the batch timeout {timeout!r} needs a number and a unit (ms, s, m)"
    size = orderer_pb2.BatchSize.FromString(group.values["BatchSize"].value)
    if not size.max_message_count or not 0 < size.preferred_max_bytes <= size.absolute_max_bytes:
        yield f"{path}: a block must hold at least a message, and prefer no more bytes than it may have"
    consensus = orderer_pb2.ConsensusType.FromString(group.values["ConsensusType"].value)
    if consensus.type == "etcdraft":
        yield from _raft_problems(path, raft_pb2.ConfigMetadata.FromString(consensus.metadata), group)


def _raft_problems(path: str, metadata: Any, group: Any) -> Iterator[str]:
    if not metadata.consenters:
        yield f"{path}: there is no consenter"
    addresses = [(consenter.host, consenter.port) for consenter in metadata.consenters]
    if len(set(addresses)) != len(addresses):
        yield f"{path}: two consenters have the same address"
    if not metadata.HasField("options") or not metadata.options.election_tick:
        yield f"{path}: Raft's options are mandatory"
    roots = [root for organization in group.groups.values() for root in _tls_roots(organization)]
    for consenter in metadata.consenters:
        certificate = certs.certificate_from_pem(consenter.server_tls_cert)
        if not any(certs.is_issued_by(certificate, root) for root in roots):
            yield f"{path}: the TLS certificate of {consenter.host}:{consenter.port} is of no orderer organization's CA"


def _tls_roots(organization: Any) -> list[x509.Certificate]:
    msp = MspDefinition.from_config(msp_config_pb2.MSPConfig.FromString(organization.values["MSP"].value))
    return [certs.certificate_from_pem(pem) for pem in msp.tls_root_certs]


def _unchangeable(group: Any, path: str) -> Iterator[str]:
    """Elements that nobody could change: they name no policy, or one that does not exist beside them."""
    if not group.mod_policy:
        yield f"{path} has an empty mod_policy and could never be changed"
    for kind, elements in (("value", group.values), ("policy", group.policies)):
        for name, element in sorted(elements.items()):
            if not element.mod_policy:
                yield f"{path}: the {kind} {name} has an empty mod_policy and could never be changed"
            elif not element.mod_policy.startswith("/") and element.mod_policy not in group.policies:
                yield f"{path}: the {kind} {name} is changed by policy {element.mod_policy!r}, which is not there"
    for name, policy in sorted(group.policies.items()):
        if policy.policy.type == policies_pb2.Policy.UNKNOWN:
            yield f"{path}: the policy {name} is of no known kind"
    for name, child in sorted(group.groups.items()):
        yield from _unchangeable(child, f"{path}/{name}")


def _missing(present: Any, needed: tuple[str, ...], path: str, kind: str) -> Iterator[str]:
    for name in needed:
        if name not in present:
            yield f"{path} lacks the {kind} {name}"
