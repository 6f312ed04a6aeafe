"""The orderer's port: `orderer.AtomicBroadcast` over TLS."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2

from hlf_devnet import grpc_server
from hlf_devnet.access import CHANNEL_READERS, AccessControl
from hlf_devnet.broadcast import BroadcastRefused
from hlf_devnet.config import DevnetConfig
from hlf_devnet.deliver import DeliverService
from hlf_devnet.faults import Faults
from hlf_devnet.orderer import Orderer
from hlf_devnet.services import ordering_service
from hlf_devnet.statuses import ServicerContext


class BroadcastService:
    """Takes envelopes one after the other, as Fabric's handler does: a refusal ends the stream."""

    def __init__(self, orderer: Orderer) -> None:
        self._orderer = orderer

    async def Broadcast(  # noqa: N802  protobuf's name
        self, envelopes: AsyncIterator[Any], _: ServicerContext
    ) -> AsyncIterator[Any]:
        async for envelope in envelopes:
            try:
                await self._orderer.submit(envelope.SerializeToString())
            except BroadcastRefused as refused:
                yield ab_pb2.BroadcastResponse(status=refused.status, info=refused.info)
                return
            yield ab_pb2.BroadcastResponse(status=common_pb2.SUCCESS)


async def serve(orderer: Orderer, config: DevnetConfig, faults: Faults) -> grpc.aio.Server | None:
    """The port, started, if the configuration gives one. AddressInUse."""
    section = config.orderer
    if section.listen is None or section.tls_cert is None or section.tls_key is None:
        return None
    access = AccessControl(config.channel, lambda: orderer.bundle, config.limits.time_window_seconds)
    deliver = DeliverService(orderer, access, lambda channel: channel == config.channel, CHANNEL_READERS)
    certificate = (section.tls_cert.read_bytes(), section.tls_key.read_bytes())
    service = ordering_service(BroadcastService(orderer).Broadcast, deliver.Deliver)
    server = grpc_server.create(section.listen, certificate, [service], Counter(), faults)
    await server.start()
    return server
