"""The first block of a channel (`internal/configtxgen/genesisconfig`, `protoutil/blockutils.go`)."""

import secrets
from datetime import UTC, datetime
from typing import Any

from fabric_protos.common import common_pb2, configtx_pb2

from hlf import crypto
from hlf.admin import validation
from hlf.admin.channel import ChannelDefinition

_LAST_CONFIG_AT_GENESIS = common_pb2.Metadata(
    value=common_pb2.OrdererBlockMetadata(last_config=common_pb2.LastConfig(index=0)).SerializeToString()
).SerializeToString()


def genesis_block(definition: ChannelDefinition, *, now: datetime | None = None) -> Any:
    """The `common.Block` with number 0. ConfigurationInvalid if the definition would make a channel that cannot be
    used or changed; Fabric itself accepts many of these."""
    config = configtx_pb2.Config(channel_group=definition.to_group())
    validation.check(config)
    return first_block(definition.name, config, now=now)


def first_block(channel: str, config: Any, *, now: datetime | None = None) -> Any:
    """The `common.Block` with number 0 and this `common.Config`, which is not looked at."""
    envelope = _envelope(channel, config, now or datetime.now(UTC))
    data = envelope.SerializeToString(deterministic=True)
    return common_pb2.Block(
        header=common_pb2.BlockHeader(number=0, data_hash=crypto.sha256(data)),
        data=common_pb2.BlockData(data=[data]),
        metadata=common_pb2.BlockMetadata(metadata=[_LAST_CONFIG_AT_GENESIS, b"", b"", b"", b""]),
    )


def _envelope(channel: str, config: Any, now: datetime) -> Any:
    nonce = secrets.token_bytes(24)
    header = common_pb2.ChannelHeader(
        type=common_pb2.CONFIG, version=1, channel_id=channel, tx_id=crypto.sha256(nonce).hex()
    )
    header.timestamp.FromDatetime(now.replace(microsecond=0))
    payload = common_pb2.Payload(
        header=common_pb2.Header(
            channel_header=header.SerializeToString(),
            signature_header=common_pb2.SignatureHeader(nonce=nonce).SerializeToString(),
        ),
        data=configtx_pb2.ConfigEnvelope(config=config).SerializeToString(deterministic=True),
    )
    return common_pb2.Envelope(payload=payload.SerializeToString(deterministic=True))
