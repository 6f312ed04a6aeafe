"""The channel's first block: its organizations, policies, capabilities and batch settings, in Fabric's own format."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fabric_protos.common import configtx_pb2
from hlf.admin import channel as admin
from hlf.admin.genesis import first_block

from hlf_devnet.msp import Msp
from hlf_devnet.orderer import BatchSettings

__all__ = ["ChannelOrganization", "ChannelSettings", "genesis_block"]


@dataclass(frozen=True, slots=True)
class ChannelOrganization:
    """`anchor`: host and port of its peer."""

    msp: Msp
    anchor: tuple[str, int]


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    channel: str
    organizations: Sequence[ChannelOrganization]
    orderer: Msp
    orderer_address: str
    orderer_certificate: bytes
    """PEM of the orderer's TLS certificate, by which other orderers would know it."""
    batch: BatchSettings


def genesis_block(settings: ChannelSettings) -> bytes:
    """Block 0 as `configtxgen` makes it, with one policy more: AllEndorsement, for chaincodes that every organization
    endorses."""
    group = _definition(settings).to_group()
    every = configtx_pb2.ConfigPolicy(policy=admin.implicit_meta("ALL", "Endorsement"), mod_policy=admin.ADMINS)
    group.groups["Application"].policies["AllEndorsement"].CopyFrom(every)
    block = first_block(settings.channel, configtx_pb2.Config(channel_group=group))
    return bytes(block.SerializeToString(deterministic=True))


def _definition(settings: ChannelSettings) -> admin.ChannelDefinition:
    batch = settings.batch
    return admin.ChannelDefinition(
        settings.channel,
        tuple(admin.PeerOrganization(one.msp, (f"{one.anchor[0]}:{one.anchor[1]}",)) for one in settings.organizations),
        (admin.OrdererOrganization(settings.orderer, (settings.orderer_address,)),),
        (admin.Consenter(settings.orderer_address, settings.orderer_certificate),),
        admin.BatchSettings(
            timedelta(milliseconds=batch.timeout_ms), batch.max_messages, batch.max_bytes, batch.absolute_max_bytes
        ),
    )
