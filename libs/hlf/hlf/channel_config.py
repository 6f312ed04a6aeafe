"""Reading a channel's configuration out of its blocks."""

from typing import Any

from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.msp import msp_config_pb2
from google.protobuf.message import DecodeError

from hlf.msp import Msp

IMPLICIT_PREFIX = "_implicit_org_"


def config_of(block: bytes) -> Any:
    """The `common.Config` in a serialized configuration block. ValueError if it is not one."""
    try:
        return config_in(common_pb2.Block.FromString(block))
    except DecodeError as error:
        raise ValueError("not a configuration block") from error


def config_in(block: Any) -> Any:
    """The `common.Config` in a configuration block, a `common.Block`. ValueError if it is not one."""
    _, config = _read(block)
    return config


def channel_of(block: Any) -> str:
    """The channel that a configuration block is about. ValueError if it is not one."""
    header, _ = _read(block)
    return str(header.channel_id)


def _read(block: Any) -> tuple[Any, Any]:
    """`common.ChannelHeader` and `common.Config`."""
    try:
        (content,) = block.data.data
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(content).payload)
        header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        envelope = configtx_pb2.ConfigEnvelope.FromString(payload.data)
    except (DecodeError, ValueError) as error:
        raise ValueError("not a configuration block") from error
    if header.type != common_pb2.CONFIG:
        raise ValueError("not a configuration block")
    return header, envelope.config


def last_config_number(block: Any) -> int:
    """The number of the configuration block that was in force when the orderer signed the `common.Block`
    (`protoutil.GetLastConfigIndexFromBlock`). ValueError if it does not say; the first block need not.
    """
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
    if block.header.number and not metadata.value:
        raise ValueError(f"block {block.header.number} does not say which configuration was in force")
    return int(common_pb2.OrdererBlockMetadata.FromString(metadata.value).last_config.index)


def section(config: Any, name: str) -> Any:
    """The group `Application` or `Orderer` of a `common.Config`. ValueError without it: looking it up would make it."""
    if name not in config.channel_group.groups:
        raise ValueError(f"the configuration has no group {name}")
    return config.channel_group.groups[name]


def value(group: Any, name: str) -> bytes:
    """The bytes of a group's value. ValueError without it."""
    if name not in group.values:
        raise ValueError(f"the configuration has no value {name}")
    return bytes(group.values[name].value)


def application_organizations(config: Any) -> tuple[str, ...]:
    """MSP ids. Fabric names groups freely; ours, as those of its samples, are named by MSP id."""
    groups = config.channel_group.groups
    return tuple(sorted(groups["Application"].groups)) if "Application" in groups else ()


def members(group: Any) -> dict[str, Msp]:
    """The organizations of a section (`Application` or `Orderer`), by MSP id. ValueError if one's MSP is malformed."""
    msps = [organization_msp(organization) for organization in group.groups.values()]
    return {msp.msp_id: msp for msp in msps}


def organization_msp(group: Any) -> Msp:
    """The MSP of an organization's group. ValueError if it is malformed or missing."""
    try:
        return Msp.from_config(msp_config_pb2.MSPConfig.FromString(value(group, "MSP")))
    except DecodeError as error:
        raise ValueError("malformed MSP") from error


def implicit_collections(config: Any) -> frozenset[str]:
    """Every organization has one, in every chaincode."""
    return frozenset(IMPLICIT_PREFIX + msp_id for msp_id in application_organizations(config))
