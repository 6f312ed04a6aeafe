"""Brings a channel into being on running peers and orderers, and a chaincode into force. Every step may be repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hlf.admin.channel import BatchSettings, ChannelDefinition, Consenter, OrdererOrganization, PeerOrganization
from hlf.admin.genesis import genesis_block
from hlf.admin.lifecycle import ChaincodeDefinition, Lifecycle, is_passing
from hlf.admin.msp import MspDefinition
from hlf.admin.packaging import ServiceAddress, package
from hlf.admin.participation import OrdererAdmin
from hlf.admin.peer import PeerAdmin
from hlf.errors import HlfError
from hlf.gateway import Endpoint, Gateway
from hlf.identity import SigningIdentity

from emr_network.fabric.nodes import OrdererNode, PeerNode

START_SECONDS = 60.0
POLL_SECONDS = 0.3

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """An organization: its verifying MSP, its peer, and an administrator who acts for it."""

    msp_id: str
    msp: Path
    peer: PeerNode
    admin: SigningIdentity

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.peer.address, self.peer.tls.ca.read_bytes())


@dataclass(frozen=True)
class OrderingService:
    """The organization that orders, its nodes, and the TLS certificate and key by which they are administered."""

    msp_id: str
    msp: Path
    nodes: tuple[OrdererNode, ...]
    admin_certificate: tuple[Path, Path]


@dataclass(frozen=True)
class FabricChannel:
    name: str
    members: tuple[Member, ...]
    ordering: OrderingService
    batch: BatchSettings

    def definition(self) -> ChannelDefinition:
        ordering = self.ordering
        return ChannelDefinition(
            self.name,
            tuple(
                PeerOrganization(MspDefinition.from_dir(one.msp, one.msp_id), (one.peer.address,))
                for one in self.members
            ),
            (
                OrdererOrganization(
                    MspDefinition.from_dir(ordering.msp, ordering.msp_id),
                    tuple(node.address for node in ordering.nodes),
                ),
            ),
            tuple(Consenter(node.address, node.tls.certificate.read_bytes()) for node in ordering.nodes),
            self.batch,
        )

    def genesis(self, kept: Path) -> bytes:
        """Block 0, made once and kept in a file: a repetition must join with the same."""
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(genesis_block(self.definition()).SerializeToString())
        return kept.read_bytes()

    async def create(self, genesis: bytes) -> None:
        """Makes the channel: orderers take part, peers join."""
        for node in self.ordering.nodes:
            await self._join_orderer(node, genesis)
        for member in self.members:
            await self._join_peer(member, genesis)

    async def deploy(self, definition: ChaincodeDefinition, services: Mapping[str, ServiceAddress]) -> dict[str, str]:
        """Installs, approves for every member and commits. Package ids by MSP id."""
        packages = {
            member.msp_id: package(f"{definition.name}_{definition.version}", services[member.msp_id])
            for member in self.members
        }
        for member in self.members:
            async with PeerAdmin(member.endpoint, member.admin) as peer:
                await peer.install(packages[member.msp_id])
        for member in self.members:
            await self._with_lifecycle(member, _approval(definition, packages[member.msp_id].package_id))
        names = [member.msp_id for member in self.members]
        await self._with_lifecycle(self.members[0], lambda one: one.commit(definition, names))
        return {msp_id: made.package_id for msp_id, made in packages.items()}

    async def _join_orderer(self, node: OrdererNode, block: bytes) -> None:
        async with OrdererAdmin(
            f"https://{node.admin_address}",
            tls_ca_file=node.admin_tls.ca,
            client_cert=self.ordering.admin_certificate,
        ) as admin:
            await eventually(lambda: admin.join(self.name, block))

    async def _join_peer(self, member: Member, block: bytes) -> None:
        async with PeerAdmin(member.endpoint, member.admin) as peer:
            await eventually(lambda: peer.join(block))

    async def _with_lifecycle(self, member: Member, step: Callable[[Lifecycle], Awaitable[T]]) -> T:
        async with Gateway([member.endpoint]) as gateway:
            lifecycle = Lifecycle(gateway, member.admin, self.name)
            return await eventually(lambda: step(lifecycle), is_passing)


def _approval(definition: ChaincodeDefinition, package_id: str) -> Callable[[Lifecycle], Awaitable[bool]]:
    return lambda lifecycle: lifecycle.approve(definition, package_id)


async def eventually(
    step: Callable[[], Awaitable[T]],
    is_passing: Callable[[HlfError], bool] = lambda failure: failure.retriable,
    *,
    seconds: float = START_SECONDS,
) -> T:
    """What `step` gives, tried again while it fails for a reason that passes: a network that has just started has not
    found itself yet."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            return await step()
        except HlfError as failure:
            if not is_passing(failure) or time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(POLL_SECONDS)
