"""A channel's configuration as typed values, and the tree of groups that Fabric makes of it.

The tree follows `common/channelconfig` and `internal/configtxgen/encoder` of Fabric 3.1: groups Orderer and Application
below the channel's, a group an organization below each, every element with mod_policy `Admins`. An element with an
empty mod_policy would be accepted at genesis and could never be changed again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from fabric_protos.common import configtx_pb2, configuration_pb2, policies_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.orderer.etcdraft import configuration_pb2 as raft_pb2
from fabric_protos.peer import configuration_pb2 as peer_pb2

from hlf import policies

ADMINS = "Admins"
CHANNEL_CAPABILITY = "V2_0"
ORDERER_CAPABILITY = "V2_0"
APPLICATION_CAPABILITY = "V2_5"
"""The least that has PurgePrivateData."""

_HASHING_WIDTH = 4294967295
_SIGNATURE = policies_pb2.Policy.SIGNATURE
_IMPLICIT_META = policies_pb2.Policy.IMPLICIT_META


class VerifyingMsp(Protocol):
    """What the configuration holds of an organization's MSP; `hlf.admin.msp.MspDefinition` is one."""

    @property
    def msp_id(self) -> str: ...

    def to_config(self) -> Any:
        """A `msp.MSPConfig`."""


@dataclass(frozen=True)
class PeerOrganization:
    """A member of the application: its MSP and where other organizations' peers first meet its peers (`host:port`)."""

    msp: VerifyingMsp
    anchor_peers: tuple[str, ...]


@dataclass(frozen=True)
class Consenter:
    """A Raft orderer: its address and the TLS certificate (PEM) that it shows as server and as client."""

    address: str
    tls_cert: bytes


@dataclass(frozen=True)
class OrdererOrganization:
    """An organization that orders: its MSP and the addresses at which peers fetch blocks."""

    msp: VerifyingMsp
    endpoints: tuple[str, ...]


@dataclass(frozen=True)
class BatchSettings:
    """When a block is cut: so long after its first transaction, or at so many of them, or at so many bytes."""

    timeout: timedelta = timedelta(milliseconds=50)
    max_messages: int = 24
    preferred_max_bytes: int = 2 * 1024 * 1024
    absolute_max_bytes: int = 20 * 1024 * 1024


@dataclass(frozen=True)
class ChannelDefinition:
    """All that a channel's genesis block says."""

    name: str
    organizations: tuple[PeerOrganization, ...]
    orderers: tuple[OrdererOrganization, ...]
    consenters: tuple[Consenter, ...]
    batch: BatchSettings = BatchSettings()

    def to_group(self) -> Any:
        """The `common.ConfigGroup` at the root of the tree."""
        group = _group(
            values={
                "HashingAlgorithm": configuration_pb2.HashingAlgorithm(name="SHA256"),
                "BlockDataHashingStructure": configuration_pb2.BlockDataHashingStructure(width=_HASHING_WIDTH),
                "Capabilities": _capabilities(CHANNEL_CAPABILITY),
            },
            policies=_meta_policies(),
        )
        group.groups["Orderer"].CopyFrom(self._orderer_group())
        group.groups["Application"].CopyFrom(self._application_group())
        return group

    def _orderer_group(self) -> Any:
        group = _group(
            values={
                **batch_values(self.batch),
                "ConsensusType": consensus_type(self.consenters),
                "ChannelRestrictions": orderer_pb2.ChannelRestrictions(),
                "Capabilities": _capabilities(ORDERER_CAPABILITY),
            },
            policies=_meta_policies() | {"BlockValidation": implicit_meta("ANY", "Writers")},
        )
        for organization in self.orderers:
            group.groups[organization.msp.msp_id].CopyFrom(orderer_group(organization))
        return group

    def _application_group(self) -> Any:
        majority = implicit_meta("MAJORITY", "Endorsement")
        group = _group(
            values={"Capabilities": _capabilities(APPLICATION_CAPABILITY)},
            policies=_meta_policies() | {"LifecycleEndorsement": majority, "Endorsement": majority},
        )
        for organization in self.organizations:
            group.groups[organization.msp.msp_id].CopyFrom(organization_group(organization))
        return group


def organization_group(organization: PeerOrganization) -> Any:
    """The `common.ConfigGroup` of a member: what is added to a channel that it joins."""
    msp_id = organization.msp.msp_id
    return _group(
        values={"MSP": organization.msp.to_config(), "AnchorPeers": anchor_peers(organization.anchor_peers)},
        policies={
            "Readers": signed_by_any(msp_id, "admin", "peer", "client"),
            "Writers": signed_by_any(msp_id, "admin", "client"),
            "Admins": signed_by_any(msp_id, "admin"),
            "Endorsement": signed_by_any(msp_id, "peer"),
        },
    )


def orderer_group(organization: OrdererOrganization) -> Any:
    """The `common.ConfigGroup` of an organization that orders."""
    msp_id = organization.msp.msp_id
    return _group(
        values={
            "MSP": organization.msp.to_config(),
            "Endpoints": configuration_pb2.OrdererAddresses(addresses=organization.endpoints),
        },
        policies={
            "Readers": signed_by_any(msp_id, "member"),
            "Writers": signed_by_any(msp_id, "member"),
            "Admins": signed_by_any(msp_id, "admin"),
        },
    )


def batch_values(batch: BatchSettings) -> dict[str, Any]:
    """The two values of the Orderer group that say when a block is cut."""
    milliseconds = batch.timeout // timedelta(milliseconds=1)
    return {
        "BatchSize": orderer_pb2.BatchSize(
            max_message_count=batch.max_messages,
            absolute_max_bytes=batch.absolute_max_bytes,
            preferred_max_bytes=batch.preferred_max_bytes,
        ),
        "BatchTimeout": orderer_pb2.BatchTimeout(timeout=f"{milliseconds}ms"),
    }


def consensus_type(consenters: tuple[Consenter, ...]) -> Any:
    """The `orderer.ConsensusType` of Raft with Fabric's default options, all of which are mandatory."""
    options = raft_pb2.Options(
        tick_interval="500ms",
        election_tick=10,
        heartbeat_tick=1,
        max_inflight_blocks=5,
        snapshot_interval_size=16 * 1024 * 1024,
    )
    metadata = raft_pb2.ConfigMetadata(consenters=[_consenter(consenter) for consenter in consenters], options=options)
    return orderer_pb2.ConsensusType(type="etcdraft", metadata=metadata.SerializeToString(deterministic=True))


def anchor_peers(addresses: tuple[str, ...]) -> Any:
    """The `protos.AnchorPeers` of `host:port` addresses. ValueError if one has no port."""
    peers = [peer_pb2.AnchorPeer(host=host, port=port) for host, port in map(split_address, addresses)]
    return peer_pb2.AnchorPeers(anchor_peers=peers)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`. ValueError if there is no port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def signed_by_any(msp_id: str, *roles: str) -> Any:
    """A `common.Policy`: one signature of a member in one of these roles."""
    envelope = policies.signature_policy(1, [(msp_id, role) for role in roles])
    return policies_pb2.Policy(type=_SIGNATURE, value=envelope)


def implicit_meta(rule: str, sub_policy: str) -> Any:
    """A `common.Policy`: `rule` is ANY, ALL or MAJORITY of the groups' policies named `sub_policy`."""
    meta = policies_pb2.ImplicitMetaPolicy(sub_policy=sub_policy, rule=policies_pb2.ImplicitMetaPolicy.Rule.Value(rule))
    return policies_pb2.Policy(type=_IMPLICIT_META, value=meta.SerializeToString())


def config_value(message: Any) -> Any:
    """A `common.ConfigValue` that administrators may change."""
    return configtx_pb2.ConfigValue(value=message.SerializeToString(deterministic=True), mod_policy=ADMINS)


def _group(*, values: Mapping[str, Any], policies: Mapping[str, Any]) -> Any:
    group = configtx_pb2.ConfigGroup(mod_policy=ADMINS)
    for name, message in values.items():
        group.values[name].CopyFrom(config_value(message))
    for name, policy in policies.items():
        group.policies[name].CopyFrom(configtx_pb2.ConfigPolicy(policy=policy, mod_policy=ADMINS))
    return group


def _meta_policies() -> dict[str, Any]:
    return {
        "Readers": implicit_meta("ANY", "Readers"),
        "Writers": implicit_meta("ANY", "Writers"),
        "Admins": implicit_meta("MAJORITY", "Admins"),
    }


def _capabilities(name: str) -> Any:
    return configuration_pb2.Capabilities(capabilities={name: configuration_pb2.Capability()})


def _consenter(consenter: Consenter) -> Any:
    host, port = split_address(consenter.address)
    return raft_pb2.Consenter(
        host=host, port=port, client_tls_cert=consenter.tls_cert, server_tls_cert=consenter.tls_cert
    )
