"""The whole devnet: every organization's peer and the orderer, in one process."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Self

from hlf.crypto import private_key_from_pem
from hlf.identity import SigningIdentity

from hlf_devnet import data_format
from hlf_devnet.access import AccessControl
from hlf_devnet.config import Chaincode, ConfigError, DevnetConfig
from hlf_devnet.endorser import Endorser
from hlf_devnet.faults import Faults
from hlf_devnet.genesis import ChannelOrganization, ChannelSettings, config_of, genesis_block
from hlf_devnet.lifecycle import ChaincodeDefinition, commit_definition
from hlf_devnet.msp import MspRegistry
from hlf_devnet.orderer import BatchSettings, Orderer
from hlf_devnet.organization import RunningOrganization
from hlf_devnet.policy import ChannelPolicies, channel_policy, signature_policy
from hlf_devnet.transient import TransientStore
from hlf_devnet.validator import Validator

logger = logging.getLogger(__name__)


class UnknownOrganization(Exception):
    """No organization of that MSP id."""


class Network:
    """Use `Network.open`, then `start`; in the end `close`."""

    def __init__(self, config: DevnetConfig, msps: MspRegistry, orderer: Orderer) -> None:
        self.config = config
        self.calls: Counter[str] = Counter()
        self._orderer = orderer
        policies = ChannelPolicies(config_of(orderer.block_bytes(0)), msps)
        orderer.use_policies(policies)
        self._access = AccessControl(config.channel, msps, policies, config.limits.time_window_seconds)
        self._validator = Validator(config.channel, msps, policies)
        self._faults = Faults()
        self._running: dict[str, RunningOrganization] = {}
        self._changing = asyncio.Lock()
        self._ordering: asyncio.Task[None] | None = None
        if set(policies.application_organizations) != {member.msp_id for member in config.organizations}:
            raise ConfigError(f"{config.data_dir} holds a channel of other organizations")

    @classmethod
    def open(cls, config: DevnetConfig) -> Self:
        """Reads the certificates and opens the chain, or starts one. LedgerCorrupt, MspError, ConfigError."""
        folders = {member.msp_id: member.msp_dir for member in config.organizations}
        msps = MspRegistry.from_dirs({**folders, config.orderer.msp_id: config.orderer.msp_dir})
        batch = BatchSettings(config.batch.timeout_ms, config.batch.max_messages, config.batch.max_bytes)
        data_format.claim(config.data_dir)
        folder = config.data_dir / "orderer"
        folder.mkdir(parents=True, exist_ok=True)
        genesis = genesis_block(_channel_settings(config, msps, batch))
        orderer = Orderer.open(folder, config.channel, _orderer_signer(config), msps, batch, genesis)
        return cls(config, msps, orderer)

    async def start(self) -> None:
        """Returns when every organization can be called and every chaincode is defined. AddressInUse."""
        self._ordering = self._faults.watch(asyncio.create_task(self._orderer.run()))
        for member in self.config.organizations:
            self._running[member.msp_id] = self._open(member.msp_id)
        await self._unless_failed(self._commit_definitions())
        for running in self._running.values():
            await running.serve(self.members, self._orderer, self.calls)

    async def _unless_failed(self, work: Coroutine[Any, Any, None]) -> None:
        """Does `work`, which waits for what happens in the background; raises what fails there."""
        working, failed = asyncio.create_task(work), asyncio.create_task(self.failed())
        await asyncio.wait((working, failed), return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            working.cancel()
            raise failed.result()
        failed.cancel()
        await working

    def members(self) -> dict[str, Endorser]:
        """The organizations whose peers run now."""
        return {msp_id: running.endorser for msp_id, running in self._running.items()}

    async def stop_organization(self, msp_id: str) -> None:
        """Stops one organization's peer; harmless if it does not run. UnknownOrganization."""
        self._require(msp_id)
        async with self._changing:
            running = self._running.pop(msp_id, None)
            if running is not None:
                await running.close()
                logger.info("the peer of %s is stopped", msp_id)

    async def start_organization(self, msp_id: str) -> None:
        """Starts a stopped peer, which then fetches the blocks it missed; harmless if it runs. UnknownOrganization."""
        self._require(msp_id)
        async with self._changing:
            if msp_id not in self._running:
                self._running[msp_id] = await self._caught_up(msp_id)
                logger.info("the peer of %s is started", msp_id)

    def status(self) -> dict[str, Any]:
        """What the control interface shows."""
        organizations = []
        for member in self.config.organizations:
            running = self._running.get(member.msp_id)
            organizations.append(
                {
                    "msp_id": member.msp_id,
                    "running": running is not None,
                    "height": None if running is None else running.peer.ledger.height,
                    "endpoint": member.peer.listen,
                    "chaincodes": {
                        name: running is not None and running.peer.chaincodes[name].is_ready
                        for name in sorted(member.chaincodes)
                    },
                }
            )
        return {
            "channel": self.config.channel,
            "height": self._orderer.height,
            "organizations": organizations,
            "calls": dict(sorted(self.calls.items())),
        }

    async def failed(self) -> BaseException:
        """Waits for the first fault that devnet does not survive."""
        return await self._faults.first()

    async def close(self) -> None:
        async with self._changing:
            for msp_id in list(self._running):
                await self._running.pop(msp_id).close()
        if self._ordering is not None:
            self._ordering.cancel()
            await asyncio.gather(self._ordering, return_exceptions=True)  # what failed is reported
        self._orderer.close()

    async def _caught_up(self, msp_id: str) -> RunningOrganization:
        """The organization with all blocks: before that, what it endorses would not match the others'."""
        running = self._open(msp_id)
        try:
            await running.peer.ledger.wait_for_height(self._orderer.height)
            await running.serve(self.members, self._orderer, self.calls)
        except BaseException:
            await running.close()
            raise
        return running

    def _require(self, msp_id: str) -> None:
        if msp_id not in {member.msp_id for member in self.config.organizations}:
            raise UnknownOrganization(msp_id)

    def _open(self, msp_id: str) -> RunningOrganization:
        def other_transient_stores() -> Iterable[TransientStore]:
            return [running.peer.transient for name, running in self._running.items() if name != msp_id]

        return RunningOrganization.open(
            self.config,
            self.config.organization(msp_id),
            self._access,
            self._orderer,
            self._validator,
            other_transient_stores,
            self._faults,
        )

    async def _commit_definitions(self) -> None:
        peers = [running.peer for running in self._running.values()]
        for peer in peers:
            await peer.ledger.wait_for_height(self._orderer.height)
        signers = [peer.signer for peer in peers]
        for chaincode in self.config.chaincodes:
            await self._commit_definition(_definition(chaincode), signers)
        for peer in peers:
            await peer.ledger.wait_for_height(self._orderer.height)

    async def _commit_definition(self, definition: ChaincodeDefinition, endorsers: Sequence[SigningIdentity]) -> None:
        """In the orderer's name: a peer is no writer of the channel, and devnet has no client's key."""
        creator = _orderer_signer(self.config)
        ledger = next(iter(self._running.values())).peer.ledger
        try:
            envelope = commit_definition(ledger, self.config.channel, definition, creator, endorsers)
        except ValueError as error:
            raise ConfigError(f"chaincode {definition.name}: {error}") from error
        if envelope is not None:
            await self._orderer.submit(envelope)
            await ledger.wait_for_height(self._orderer.height)


def _orderer_signer(config: DevnetConfig) -> SigningIdentity:
    pair = config.orderer.signing
    return SigningIdentity(config.orderer.msp_id, pair.cert.read_bytes(), private_key_from_pem(pair.key.read_bytes()))


def _channel_settings(config: DevnetConfig, msps: MspRegistry, batch: BatchSettings) -> ChannelSettings:
    return ChannelSettings(
        channel=config.channel,
        organizations=[
            ChannelOrganization(msps.msp(member.msp_id), _host_and_port(member.peer.listen))
            for member in config.organizations
        ],
        orderer=msps.msp(config.orderer.msp_id),
        orderer_address=config.orderer.address or "127.0.0.1:7050",
        orderer_certificate=config.orderer.signing.cert.read_bytes(),
        batch=batch,
    )


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _definition(chaincode: Chaincode) -> ChaincodeDefinition:
    endorsement = chaincode.endorsement
    if endorsement.signature is not None:
        policy = signature_policy(endorsement.signature)
    else:
        policy = channel_policy(endorsement.channel or "")
    return ChaincodeDefinition(chaincode.name, chaincode.version, chaincode.sequence, policy)
