"""What administrators do with a network, devnet or official, through hlf.admin alone.

Each organization has one administrator here. A change is computed from the configuration that a peer tells, signed by
some administrators, broadcast to the orderer, and awaited at peers.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fabric_protos.common import configtx_pb2
from fabric_protos.msp import msp_config_pb2
from hlf.admin import signatures, update
from hlf.admin.lifecycle import Lifecycle
from hlf.admin.ordering import OrdererClient
from hlf.admin.peer import PeerAdmin
from hlf.errors import HlfError
from hlf.identity import SigningIdentity
from support.devnet import MSP_IDS, ORDERER_MSP_ID, Network

Edit = Callable[[Any], object]
"""Changes the root `common.ConfigGroup` of a channel in place."""
AWAIT_SECONDS = 60
T = TypeVar("T")


@dataclass
class Administration:
    network: Network
    administrators: dict[str, SigningIdentity] = field(default_factory=dict)

    @property
    def channel(self) -> str:
        return self.network.channel

    def administrator(self, msp_id: str) -> SigningIdentity:
        if msp_id not in self.administrators:
            self.administrators[msp_id] = self.network.member(msp_id, "admin", role="admin")
        return self.administrators[msp_id]

    async def config(self, msp_id: str = MSP_IDS[0]) -> Any:
        """The `common.Config` as a peer knows it."""
        async with self.network.gateway(msp_id) as gateway:
            contract = gateway.contract(self.administrator(msp_id), self.channel, "cscc")
            answer = await contract.evaluate("GetChannelConfig", self.channel, target_organizations=[msp_id])
        return configtx_pb2.Config.FromString(answer)

    async def propose(self, edit: Edit) -> bytes:
        """The serialized `common.ConfigUpdate` that makes `edit` of the present configuration."""
        config = await self.config()
        changed = configtx_pb2.Config()
        changed.CopyFrom(config)
        edit(changed.channel_group)
        return bytes(update.compute(self.channel, config, changed).SerializeToString(deterministic=True))

    def sign(self, config_update: bytes, signers: Iterable[str]) -> list[bytes]:
        return [signatures.sign(config_update, self.administrator(msp_id)) for msp_id in signers]

    async def broadcast(
        self, config_update: bytes, signed: Sequence[bytes], sender: SigningIdentity | None = None
    ) -> None:
        by = sender or self.administrator(MSP_IDS[0])
        async with OrdererClient(self.network.orderer_endpoint) as orderer:
            await orderer.broadcast(signatures.envelope(self.channel, config_update, signed, by))

    async def change(self, edit: Edit, signers: Sequence[str], at: Iterable[str] = MSP_IDS) -> Any:
        """Makes the change; the configuration, once it is in force at the peers of `at`."""
        before = (await self.config()).sequence
        config_update = await self.propose(edit)
        await self.broadcast(config_update, self.sign(config_update, signers))
        for msp_id in at:
            config = await self.wait_for_sequence(before + 1, msp_id)
        return config

    async def wait_for_sequence(self, sequence: int, msp_id: str) -> Any:
        async with asyncio.timeout(AWAIT_SECONDS):
            while (config := await self._config_when_ready(msp_id)) is None or config.sequence < sequence:
                await asyncio.sleep(0.05)
        return config

    async def _config_when_ready(self, msp_id: str) -> Any | None:
        """None while the peer does not know its own organization yet: it has not caught up."""
        try:
            return await self.config(msp_id)
        except HlfError:
            return None

    @asynccontextmanager
    async def lifecycle(self, msp_id: str) -> AsyncIterator[Lifecycle]:
        async with self.network.gateway(msp_id) as gateway:
            yield Lifecycle(gateway, self.administrator(msp_id), self.channel)

    def peer(self, msp_id: str, signer: SigningIdentity | None = None) -> PeerAdmin:
        return PeerAdmin(self.network.endpoint(msp_id), signer or self.administrator(msp_id))

    async def genesis_block(self) -> bytes:
        async with self.network.gateway(MSP_IDS[0]) as gateway:
            contract = gateway.contract(self.administrator(MSP_IDS[0]), self.channel, "qscc")
            return await contract.evaluate("GetBlockByNumber", self.channel, "0", target_organizations=[MSP_IDS[0]])


async def eventually(step: Callable[[], Awaitable[T]]) -> T:
    """What `step` gives, tried again while it fails: official peers learn of each other's news by gossip."""
    async with asyncio.timeout(AWAIT_SECONDS):
        while True:
            try:
                return await step()
            except HlfError as failure:
                last = failure
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                raise AssertionError(f"it kept failing: {last}") from last


def revoke(msp_id: str, crl: bytes) -> Edit:
    """Puts a revocation list into an organization's MSP."""

    def edit(group: Any) -> None:
        value = group.groups["Application"].groups[msp_id].values["MSP"]
        config = msp_config_pb2.MSPConfig.FromString(value.value)
        fabric = msp_config_pb2.FabricMSPConfig.FromString(config.config)
        fabric.revocation_list.append(crl)
        config.config = fabric.SerializeToString(deterministic=True)
        value.value = config.SerializeToString(deterministic=True)

    return edit


ALL = (*MSP_IDS, ORDERER_MSP_ID)
