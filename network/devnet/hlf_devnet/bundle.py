"""What follows from one configuration of the channel: its members, their policies, when blocks are cut.

Orderer and peers take a newer bundle each when they have the block with the newer configuration, as Fabric's do: a
block is judged by the configuration of the one before it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from fabric_protos.orderer import configuration_pb2
from fabric_protos.peer import configuration_pb2 as application_pb2
from google.protobuf.message import DecodeError
from hlf import crypto
from hlf.channel_config import section, value

from hlf_devnet.block_cutter import BatchSettings
from hlf_devnet.identities import SignatureChecker
from hlf_devnet.msp import MspError, MspRegistry
from hlf_devnet.policy import ChannelPolicies, PolicyError

Key = TypeVar("Key")
Value = TypeVar("Value")
REMEMBERED: Final = 64
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_MILLISECONDS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3, "m": 60e3, "h": 3600e3}


class ConfigurationRefused(Exception):
    """A configuration that no orderer would put in force; the text is worded after Fabric."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelBundle:
    """`config`: the `common.Config`. `acls`: the channel policy of a resource where the configuration names one."""

    config: Any
    msps: MspRegistry
    policies: ChannelPolicies
    batch: BatchSettings
    acls: Mapping[str, str]
    consensus_type: str

    @property
    def organizations(self) -> tuple[str, ...]:
        """MSP ids of the application's members, ascending."""
        return self.policies.application_organizations


class Bundles:
    """Makes bundles, each once: whoever has the same configuration shares what is remembered of identities.

    `folders`: MSP folders by MSP id, whose revocation lists count beside the configuration's. It may grow and shrink.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.signatures = SignatureChecker()
        self._folders = folders
        self._made: dict[bytes, ChannelBundle] = {}
        self._by_object: dict[int, tuple[Any, ChannelBundle]] = {}

    def of(self, config: Any) -> ChannelBundle:
        """ConfigurationRefused if nobody could use the configuration."""
        known = self._by_object.get(id(config))
        if known is not None and known[0] is config:
            return known[1]
        key = crypto.sha256(config.SerializeToString(deterministic=True))
        bundle = self._made.get(key) or self._make(config)
        _remember(self._made, key, bundle)
        _remember(self._by_object, id(config), (config, bundle))
        return bundle

    def forget(self) -> None:
        """After a change of the folders."""
        self._made.clear()
        self._by_object.clear()

    def _make(self, config: Any) -> ChannelBundle:
        try:
            msps = MspRegistry.from_config(config, self._folders, self.signatures)
            policies = ChannelPolicies(config, msps)
            policies.check_all()
            batch, acls, consensus_type = _batch(config), _acls(config), _consensus_type(config)
            _check_names(config)
        except (MspError, PolicyError, DecodeError, ValueError) as error:
            raise ConfigurationRefused(f"initializing channelconfig failed: {error}") from error
        return ChannelBundle(config, msps, policies, batch, acls, consensus_type)


def _remember(known: dict[Key, Value], key: Key, found: Value) -> None:
    if len(known) >= REMEMBERED:
        known.pop(next(iter(known)), None)
    known[key] = found


def _batch(config: Any) -> BatchSettings:
    group = section(config, "Orderer")
    size = configuration_pb2.BatchSize.FromString(value(group, "BatchSize"))
    timeout = configuration_pb2.BatchTimeout.FromString(value(group, "BatchTimeout")).timeout
    for name in ("max_message_count", "absolute_max_bytes", "preferred_max_bytes"):
        if not getattr(size, name):
            raise ValueError(f"attempted to set the batch size {name.replace('_', ' ')} to an invalid value: 0")
    if size.preferred_max_bytes > size.absolute_max_bytes:
        raise ValueError("attempted to set the batch size preferred max bytes greater than absolute max bytes")
    return BatchSettings(
        milliseconds(timeout), size.max_message_count, size.preferred_max_bytes, size.absolute_max_bytes
    )


def milliseconds(duration: str) -> float:
    """Of a Go duration such as `50ms` or `1m30s`. ValueError unless it is one and positive."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"invalid duration {duration!r}")
    found = sum(float(number) * _MILLISECONDS[unit] for number, unit in parts)
    if found <= 0:
        raise ValueError(f"non-positive duration {duration!r}")
    return found


def _consensus_type(config: Any) -> str:
    return str(configuration_pb2.ConsensusType.FromString(value(section(config, "Orderer"), "ConsensusType")).type)


def _check_names(config: Any) -> None:
    """Fabric names groups freely. Here, as in its samples, an organization's group has the name of its MSP: that an MSP
    cannot change its id follows."""
    for part in ("Application", "Orderer"):
        for name, group in section(config, part).groups.items():
            msp_id = MspRegistry.id_of(group)
            if msp_id != name:
                raise ValueError(f"organization {name} has an MSP of another name, {msp_id}")


def _acls(config: Any) -> Mapping[str, str]:
    group = section(config, "Application")
    acls = application_pb2.ACLs.FromString(value(group, "ACLs")).acls if "ACLs" in group.values else {}
    return {resource: _absolute(acl.policy_ref) for resource, acl in acls.items() if acl.policy_ref}


def _absolute(reference: str) -> str:
    return reference if reference.startswith("/") else f"/Channel/Application/{reference}"
