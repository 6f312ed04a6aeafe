"""A channel and those who administer it from here: its configuration read, changed, signed and put in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabric_protos.common import configtx_pb2
from hlf.admin import applying, edits, signatures, update, validation
from hlf.admin.errors import BroadcastRefused, ConfigurationInvalid, SignaturesMissing
from hlf.admin.ordering import OrdererClient
from hlf.admin.peer import PeerAdmin
from hlf.channel_config import config_of
from hlf.errors import HlfError
from hlf.gateway import Endpoint
from hlf.identity import SigningIdentity

Edit = Callable[[Any], Any]
"""From a `common.Config` to the one that is wanted (`hlf.admin.edits`)."""
Say = Callable[[str], None]

ATTEMPTS = 10
PAUSE_SECONDS = 0.5
IN_FORCE_SECONDS = 30.0


@dataclass(frozen=True)
class Administrator:
    """An administrator of a member whose key is here, and that member's peers."""

    identity: SigningIdentity
    peers: tuple[Endpoint, ...]

    @property
    def msp_id(self) -> str:
        return self.identity.msp_id


@dataclass(frozen=True)
class Consortium:
    """`orderers` are asked in turn until one takes an update; `orderer_admin` signs what only those who order may."""

    channel: str
    administrators: Mapping[str, Administrator]
    orderers: tuple[Endpoint, ...]
    orderer_admin: SigningIdentity | None = None
    say: Say = field(default=lambda _: None)

    async def configuration(self) -> Any:
        """The `common.Config` in force, from the first peer that answers. Raises HlfError."""
        return config_of(await self.config_block())

    async def config_block(self) -> bytes:
        """The newest configuration block, from the first peer that answers. Raises HlfError."""
        failure = HlfError(f"no administrator of a hospital on {self.channel} is here")
        for administrator in self.administrators.values():
            for endpoint in administrator.peers:
                try:
                    async with PeerAdmin(endpoint, administrator.identity, timeout_seconds=5) as peer:
                        return await peer.config_block(self.channel)
                except HlfError as error:
                    failure = error
        raise failure

    async def change(self, what: str, edit: Edit, also_signed: Iterable[bytes] = ()) -> bool:
        """Puts what `edit` wants in force, signed by as many administrators as it takes. False if it is already.

        Computed anew when another change came first. Raises ConfigurationInvalid, SignaturesMissing, BroadcastRefused.
        """
        for _ in range(ATTEMPTS):
            config = await self.configuration()
            wanted = edit(config)
            if wanted.channel_group == config.channel_group:
                return False
            validation.check(wanted)
            message = update.compute(self.channel, config, wanted)
            try:
                await self.submit(config, message.SerializeToString(deterministic=True), also_signed)
            except BroadcastRefused as refused:
                if not refused.is_stale:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            await self._in_force(config.sequence + 1, edits.members(wanted))
            self.say(f"made   {what}")
            return True
        raise ConfigurationInvalid([f"{what}: other changes of the configuration came first again and again"])

    async def submit(self, config: Any, config_update: bytes, also_signed: Iterable[bytes] = ()) -> None:
        """Signs an update of `config` with the administrators that it needs, and hands it in."""
        message = configtx_pb2.ConfigUpdate.FromString(config_update)
        given = list(also_signed)
        made = [signatures.sign(config_update, one) for one in self._signers(config, message, given)]
        sender = next(iter(self.administrators.values())).identity
        await self.broadcast(signatures.envelope(self.channel, config_update, [*given, *made], sender))

    async def hand_in(self, config_update: bytes, signed: Sequence[bytes], sender: SigningIdentity) -> None:
        """Hands in an update that is signed by as many as it takes, and returns once it is in force. Raises
        BroadcastRefused, also when another change came since it was computed."""
        wanted = applying.apply(await self.configuration(), configtx_pb2.ConfigUpdate.FromString(config_update))
        await self.broadcast(signatures.envelope(self.channel, config_update, signed, sender))
        await self._in_force(wanted.sequence, edits.members(wanted))

    def _signers(self, config: Any, message: Any, given: Iterable[bytes]) -> list[SigningIdentity]:
        """The first administrators who satisfy every policy together with those who have signed."""
        signed = {signatures.signer_of(one) for one in given}
        available = [one.identity for one in self.administrators.values() if one.msp_id not in signed]
        if self.orderer_admin is not None:
            available.append(self.orderer_admin)
        chosen: list[SigningIdentity] = []
        while True:
            try:
                signatures.require(config, message, signed | {one.msp_id for one in chosen})
            except SignaturesMissing as missing:
                following = next((one for one in available if one.msp_id in missing.missing), None)
                if following is None:
                    raise
                available.remove(following)
                chosen.append(following)
            else:
                return chosen

    async def broadcast(self, envelope: Any) -> None:
        """Raises BroadcastRefused, or HlfError when no orderer can be reached."""
        failure = HlfError("no orderer is known")
        for attempt in range(ATTEMPTS):
            for endpoint in self.orderers:
                try:
                    async with OrdererClient(endpoint, timeout_seconds=10) as orderer:
                        await orderer.broadcast(envelope)
                except HlfError as error:
                    failure = error
                    if not error.retriable:
                        raise
                else:
                    return
            await asyncio.sleep(PAUSE_SECONDS * (attempt + 1))
        raise failure

    async def _in_force(self, sequence: int, members: Sequence[str]) -> None:
        """Until a peer of each of these members that answers has the configuration."""
        give_up_at = time.monotonic() + IN_FORCE_SECONDS
        for administrator in (self.administrators[one] for one in members if one in self.administrators):
            while await self._sequence_at(administrator) < sequence:
                if time.monotonic() > give_up_at:
                    raise ConfigurationInvalid(
                        [f"the update was ordered, and {administrator.msp_id} does not have it in force yet"]
                    )
                await asyncio.sleep(0.1)

    async def _sequence_at(self, administrator: Administrator) -> float:
        """Infinite where no peer answers: whoever is stopped need not be waited for."""
        try:
            async with PeerAdmin(administrator.peers[0], administrator.identity, timeout_seconds=5) as peer:
                return int(config_of(await peer.config_block(self.channel)).sequence)
        except HlfError:
            return float("inf")
