"""Brings a channel into being on running peers and orderers, and a chaincode into force. Every step may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hlf.admin.channel import BatchSettings, ChannelDefinition, Consenter, OrdererOrganization, PeerOrganization
from hlf.admin.genesis import genesis_block
from hlf.admin.lifecycle import ChaincodeDefinition, Lifecycle, is_passing
from hlf.admin.msp import MspDefinition
from hlf.admin.packaging import ChaincodePackage
from hlf.admin.participation import OrdererAdmin
from hlf.admin.peer import PeerAdmin
from hlf.gateway import Endpoint, Gateway
from hlf.identity import SigningIdentity

from emr_network.fabric.nodes import OrdererNode, PeerNode
from emr_network.waiting import eventually

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Member:
    """An organization: its verifying MSP, its peers, and an administrator who acts for it."""

    msp_id: str
    msp: Path
    peers: tuple[PeerNode, ...]
    admin: SigningIdentity

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint_of(peer) for peer in self.peers)


@dataclass(frozen=True)
class OrderingService:
    """The organization that orders, its nodes, and the TLS certificate and key by which they are administered."""

    msp_id: str
    msp: Path
    nodes: tuple[OrdererNode, ...]
    admin_certificate: tuple[Path, Path]


@dataclass(frozen=True)
class FabricChannel:
    """Steps say what they have done; one that was done before does nothing and says nothing."""

    name: str
    members: tuple[Member, ...]
    ordering: OrderingService
    batch: BatchSettings
    say: Say = field(default=lambda _: None)

    def definition(self) -> ChannelDefinition:
        ordering = self.ordering
        return ChannelDefinition(
            self.name,
            tuple(
                PeerOrganization(MspDefinition.from_dir(one.msp, one.msp_id), tuple(peer.address for peer in one.peers))
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
            partial = kept.with_name(f".{kept.name}.partial")
            partial.write_bytes(genesis_block(self.definition()).SerializeToString())
            partial.replace(kept)
            self.say(f"made   block 0 of channel {self.name}")
        return kept.read_bytes()

    async def create(self, genesis: bytes) -> None:
        """Makes the channel: orderers take part, peers join."""
        for node in self.ordering.nodes:
            if await self._join_orderer(node, genesis):
                self.say(f"joined {node.name} orders {self.name}")
        for member in self.members:
            await self.join(member, genesis)

    async def join(self, member: Member, block: bytes) -> None:
        """Every peer of a member takes part in the channel of this configuration block."""
        for peer in member.peers:
            async with PeerAdmin(endpoint_of(peer), member.admin) as asked:
                if await eventually(lambda asked=asked: asked.join(block)):  # type: ignore[misc]
                    self.say(f"joined {peer.name} {self.name}")

    async def deploy(self, definition: ChaincodeDefinition, packages: Mapping[str, ChaincodePackage]) -> None:
        """Installs, approves for every member and commits. `packages` by MSP id."""
        for member in self.members:
            await self.install(member, packages[member.msp_id])
        for member in self.members:
            await self.approve(member, definition, packages[member.msp_id])
        await self.commit(definition)

    async def install(self, member: Member, package: ChaincodePackage) -> None:
        for peer in member.peers:
            async with PeerAdmin(endpoint_of(peer), member.admin) as asked:
                if await eventually(lambda asked=asked: asked.install(package)):  # type: ignore[misc]
                    self.say(f"made   chaincode {package.label} installed on {peer.name}")

    async def approve(self, member: Member, definition: ChaincodeDefinition, package: ChaincodePackage) -> None:
        if await self.with_lifecycle(member, lambda one: one.approve(definition, package.package_id)):
            self.say(f"made   {member.msp_id}'s approval of {_told(definition)}")

    async def commit(self, definition: ChaincodeDefinition) -> None:
        names = [member.msp_id for member in self.members]
        if await self.with_lifecycle(self.members[0], lambda one: one.commit(definition, names)):
            self.say(f"made   {_told(definition)} in force on {self.name}")

    async def with_lifecycle(self, member: Member, step: Callable[[Lifecycle], Awaitable[T]]) -> T:
        """What `step` gives, asked through the member's own peers, once the network has found itself."""
        async with Gateway(member.endpoints) as gateway:
            lifecycle = Lifecycle(gateway, member.admin, self.name)
            return await eventually(lambda: step(lifecycle), is_passing)

    async def _join_orderer(self, node: OrdererNode, block: bytes) -> bool:
        async with OrdererAdmin(
            f"https://{node.admin_address}",
            tls_ca_file=node.admin_tls.ca,
            client_cert=self.ordering.admin_certificate,
        ) as admin:
            return await eventually(lambda: admin.join(self.name, block))


def endpoint_of(peer: PeerNode) -> Endpoint:
    return Endpoint(peer.address, peer.tls.ca.read_bytes())


def _told(definition: ChaincodeDefinition) -> str:
    return f"chaincode {definition.name} {definition.version}, sequence {definition.sequence}"
