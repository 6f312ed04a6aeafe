"""Changes to a channel's configuration: each takes a `common.Config` and gives the one that is wanted.

Versions are left as they are: `hlf.admin.update.compute` says what must be signed. A change that is in the
configuration already gives an equal one. All raise ConfigurationInvalid for what cannot be meant.
"""

from collections.abc import Sequence
from typing import Any

from fabric_protos.common import configtx_pb2, configuration_pb2
from fabric_protos.msp import msp_config_pb2

from hlf.admin.channel import BatchSettings, PeerOrganization, batch_values, config_value, organization_group
from hlf.admin.errors import ConfigurationInvalid
from hlf.admin.msp import MspDefinition
from hlf.admin.validation import is_msp_id

APPLICATION, ORDERER = "Application", "Orderer"


def members(config: Any) -> tuple[str, ...]:
    """The MSP ids of the organizations that have peers on the channel."""
    return tuple(sorted(config.channel_group.groups[APPLICATION].groups))


def definition_of(config: Any, msp_id: str) -> MspDefinition:
    """A member's MSP as the channel knows it."""
    return MspDefinition.from_config(_msp(_member(config, msp_id)))


def orderer_addresses(config: Any) -> tuple[str, ...]:
    """Where the channel's orderers take transactions and give blocks, `host:port`."""
    return tuple(
        address
        for group in config.channel_group.groups[ORDERER].groups.values()
        for address in configuration_pb2.OrdererAddresses.FromString(group.values["Endpoints"].value).addresses
    )


def with_organization(config: Any, organization: PeerOrganization) -> Any:
    """Adds a member. Whoever is a member already with another MSP is not replaced."""
    msp_id = organization.msp.msp_id
    if not is_msp_id(msp_id):
        raise ConfigurationInvalid([f"{msp_id!r} is not a well-formed MSP id"])
    wanted = organization_group(organization)
    known = config.channel_group.groups[APPLICATION].groups
    if msp_id in known:
        if known[msp_id].values["MSP"].value == wanted.values["MSP"].value:
            return _copy(config)
        raise ConfigurationInvalid([f"the channel has an organization {msp_id} already"])
    if msp_id in config.channel_group.groups[ORDERER].groups:
        raise ConfigurationInvalid([f"{msp_id} is the MSP id of an organization that orders"])
    _require_own_roots(config, organization)
    changed = _copy(config)
    changed.channel_group.groups[APPLICATION].groups[msp_id].CopyFrom(wanted)
    return changed


def without_organization(config: Any, msp_id: str) -> Any:
    """Takes a member out; the last one stays."""
    if members(config) == (msp_id,):
        raise ConfigurationInvalid([f"{msp_id} is the channel's only organization"])
    changed = _copy(config)
    if msp_id in changed.channel_group.groups[APPLICATION].groups:
        del changed.channel_group.groups[APPLICATION].groups[msp_id]
    return changed


def with_revocations(config: Any, msp_id: str, revocation_lists: Sequence[bytes]) -> Any:
    """Makes these PEM lists the only ones of a member: certificates on them count nowhere on the channel."""
    changed = _copy(config)
    group = _member(changed, msp_id)
    message = _msp(group)
    msp = msp_config_pb2.FabricMSPConfig.FromString(message.config)
    if list(msp.revocation_list) == list(revocation_lists):
        return changed
    del msp.revocation_list[:]
    msp.revocation_list.extend(revocation_lists)
    message.config = msp.SerializeToString(deterministic=True)
    group.values["MSP"].value = message.SerializeToString(deterministic=True)
    return changed


def with_batch(config: Any, batch: BatchSettings) -> Any:
    """When blocks are cut from now on."""
    changed = _copy(config)
    values = changed.channel_group.groups[ORDERER].values
    for name, message in batch_values(batch).items():
        version = values[name].version
        values[name].CopyFrom(config_value(message))
        values[name].version = version
    return changed


def _require_own_roots(config: Any, organization: PeerOrganization) -> None:
    """An authority of two organizations would let each make members of the other."""
    roots = set(MspDefinition.from_config(organization.msp.to_config()).root_certs)
    for section in (APPLICATION, ORDERER):
        for msp_id, group in config.channel_group.groups[section].groups.items():
            if roots & set(MspDefinition.from_config(_msp(group)).root_certs):
                raise ConfigurationInvalid([f"{organization.msp.msp_id} has a root certificate of {msp_id}"])


def _member(config: Any, msp_id: str) -> Any:
    groups = config.channel_group.groups[APPLICATION].groups
    if msp_id not in groups:
        raise ConfigurationInvalid([f"the channel has no organization {msp_id}"])
    return groups[msp_id]


def _msp(group: Any) -> Any:
    return msp_config_pb2.MSPConfig.FromString(group.values["MSP"].value)


def _copy(config: Any) -> Any:
    copied = configtx_pb2.Config()
    copied.CopyFrom(config)
    return copied
