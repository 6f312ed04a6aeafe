"""The whole devnet: every organization's peer and the orderer, in one process."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
from hlf.admin.errors import PackageInvalid
from hlf.channel_config import application_organizations, config_of, section
from hlf.crypto import private_key_from_pem
from hlf.identity import SigningIdentity

from hlf_devnet import data_format, orderer_port
from hlf_devnet.bundle import Bundles, ConfigurationRefused
from hlf_devnet.chaincodes import configured_package
from hlf_devnet.config import Chaincode, ConfigError, DevnetConfig, Organization
from hlf_devnet.definition_transaction import commit_definition
from hlf_devnet.endorser import Endorser
from hlf_devnet.faults import Faults
from hlf_devnet.genesis import ChannelOrganization, ChannelSettings, genesis_block
from hlf_devnet.lifecycle import ChaincodeDefinition
from hlf_devnet.msp import MspError, MspRegistry
from hlf_devnet.orderer import BatchSettings, Orderer
from hlf_devnet.organization import Channel, RunningOrganization
from hlf_devnet.peer import Peer
from hlf_devnet.policy import channel_policy, signature_policy
from hlf_devnet.roster import Roster
from hlf_devnet.transient import TransientStore
from hlf_devnet.validator import Validator

_UNUSABLE = (MspError, PackageInvalid, OSError, ValueError)
"""What goes wrong when an organization's certificates or files cannot be used."""

logger = logging.getLogger(__name__)


class UnknownOrganization(Exception):
    """No organization of that MSP id."""


class OrganizationRefused(Exception):
    """An organization's peer cannot be opened as the section says; the text names the field."""


class OrganizationExists(Exception):
    """Another section was given for that MSP id."""


class Network:
    """Use `Network.open`, then `start`; in the end `close`."""

    def __init__(self, channel: Channel, roster: Roster, folders: dict[str, Path]) -> None:
        self.config = channel.config
        self.calls: Counter[str] = Counter()
        self._channel = channel
        self._orderer = channel.orderer
        self._faults = channel.faults
        self._roster = roster
        self._folders = folders
        self._running: dict[str, RunningOrganization] = {}
        self._changing = asyncio.Lock()
        self._ordering: asyncio.Task[None] | None = None
        self._port: grpc.aio.Server | None = None

    @classmethod
    def open(cls, config: DevnetConfig) -> Self:
        """Reads the certificates and opens the chain, or starts one. LedgerCorrupt, MspError, ConfigError."""
        data_format.claim(config.data_dir)
        roster = Roster.open(config.data_dir, config.organizations)
        folders = {member.msp_id: member.msp_dir for member in roster.organizations.values()}
        folders[config.orderer.msp_id] = config.orderer.msp_dir
        bundles = Bundles(folders)
        genesis = _genesis_block(config)
        try:
            orderer = Orderer.open(
                config.data_dir / "orderer", config.channel, _orderer_signer(config), bundles, genesis
            )
        except ConfigurationRefused as error:
            raise ConfigError(str(error)) from error
        _check_channel(config, orderer)
        channel = Channel(config, bundles, orderer, Validator(config.channel, bundles), Faults())
        return cls(channel, roster, folders)

    async def start(self) -> None:
        """Returns when every organization can be called and every chaincode is defined. AddressInUse."""
        self._ordering = self._faults.watch(asyncio.create_task(self._orderer.run()))
        for msp_id in self._roster.organizations:
            self._running[msp_id] = self._open(self._roster.organizations[msp_id])
        await self._unless_failed(self._join_founders())
        await self._unless_failed(self._commit_definitions())
        self._port = await orderer_port.serve(self._orderer, self.config, self._faults)
        for running in self._running.values():
            await running.serve(self.members, self.calls)

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
        """The organizations whose peers run now and have joined the channel."""
        return {msp_id: running.endorser for msp_id, running in self._running.items() if running.peer.has_joined}

    async def open_organization(self, organization: Organization) -> bool:
        """Opens a further organization's peer, which then waits for JoinChain; from then on every start opens it.
        False if just that was done before. OrganizationExists, OrganizationRefused, AddressInUse."""
        async with self._changing:
            known = self._roster.organizations.get(organization.msp_id)
            if known == organization:
                return False
            if known is not None:
                raise OrganizationExists(f"{organization.msp_id} runs with another configuration")
            self._check_free(organization)
            self._folders[organization.msp_id] = organization.msp_dir
            try:
                self._running[organization.msp_id] = await self._served(organization)
            except BaseException as error:
                del self._folders[organization.msp_id]
                if isinstance(error, _UNUSABLE):
                    raise OrganizationRefused(str(error)) from error
                raise
            self._roster.add(organization)
            self._channel.bundles.forget()
            self._orderer.renew()
            logger.info("the peer of %s is opened at %s", organization.msp_id, organization.peer.listen)
            return True

    async def remove_organization(self, msp_id: str) -> None:
        """Closes an organization's peer for good. What its ledger folder holds stays. UnknownOrganization."""
        self._require(msp_id)
        async with self._changing:
            running = self._running.pop(msp_id, None)
            if running is not None:
                await running.close()
            self._roster.remove(msp_id)
            logger.info("the peer of %s is removed", msp_id)

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
                self._running[msp_id] = await self._served(self._roster.organizations[msp_id])
                logger.info("the peer of %s is started", msp_id)

    def status(self) -> dict[str, Any]:
        """What the control interface shows."""
        bundle = self._orderer.bundle
        return {
            "channel": self.config.channel,
            "height": self._orderer.height,
            "sequence": bundle.config.sequence,
            "members": list(bundle.organizations),
            "orderer": {"endpoint": self.config.orderer.listen},
            "organizations": [self._status_of(one) for one in self._roster.organizations.values()],
            "calls": dict(sorted(self.calls.items())),
        }

    def _status_of(self, organization: Organization) -> dict[str, Any]:
        running = self._running.get(organization.msp_id)
        peer = None if running is None else running.peer
        return {
            "msp_id": organization.msp_id,
            "running": running is not None,
            "member": organization.msp_id in self._orderer.bundle.organizations,
            "joined": None if peer is None else peer.has_joined,
            "height": None if peer is None else peer.ledger.height,
            "endpoint": organization.peer.listen,
            "chaincodes": {} if peer is None else peer.chaincodes.ready(),
            "packages": {} if peer is None else peer.chaincodes.connected(),
        }

    async def failed(self) -> BaseException:
        """Waits for the first fault that devnet does not survive."""
        return await self._faults.first()

    async def close(self) -> None:
        async with self._changing:
            if self._port is not None:
                await self._port.stop(grace=None)
            for msp_id in list(self._running):
                await self._running.pop(msp_id).close()
        if self._ordering is not None:
            self._ordering.cancel()
            await asyncio.gather(self._ordering, return_exceptions=True)  # what failed is reported
        self._orderer.close()

    async def _served(self, organization: Organization) -> RunningOrganization:
        """The organization with all blocks that it may have: before that, what it endorses would not match the
        others'."""
        running = self._open(organization)
        try:
            if self._follows(running):
                await running.peer.ledger.wait_for_height(self._orderer.height)
            await running.serve(self.members, self.calls)
        except BaseException:
            await running.close()
            raise
        return running

    def _follows(self, running: RunningOrganization) -> bool:
        return running.peer.has_joined and running.peer.msp_id in self._orderer.bundle.organizations

    def _check_free(self, organization: Organization) -> None:
        used = {one.peer.listen: one.msp_id for one in self._roster.organizations.values()}
        if organization.msp_id == self.config.orderer.msp_id:
            raise OrganizationRefused(f"msp_id: {organization.msp_id} is the orderer's")
        if organization.peer.listen in used:
            raise OrganizationRefused(f"peer.listen: {used[organization.peer.listen]} listens there")

    def _require(self, msp_id: str) -> None:
        if msp_id not in self._roster.organizations:
            raise UnknownOrganization(msp_id)

    def _open(self, organization: Organization) -> RunningOrganization:
        def other_transient_stores() -> Iterable[TransientStore]:
            return [running.peer.transient for name, running in self._running.items() if name != organization.msp_id]

        return RunningOrganization.open(self._channel, organization, other_transient_stores)

    async def _join_founders(self) -> None:
        """Peers of the organizations in block 0 join by themselves, if the configuration says so."""
        genesis = self._orderer.block_bytes(0)
        founders = application_organizations(config_of(genesis)) if self.config.join_peers else ()
        for msp_id, running in self._running.items():
            if msp_id in founders and not running.peer.has_joined:
                await running.join(genesis)
        for running in self._running.values():
            if self._follows(running):
                await running.peer.ledger.wait_for_height(self._orderer.height)

    async def _commit_definitions(self) -> None:
        peers = [running.peer for running in self._running.values() if self._follows(running)]
        for chaincode in self.config.chaincodes if peers else ():
            await self._commit_definition(_definition(chaincode), peers)
        for peer in peers:
            await peer.ledger.wait_for_height(self._orderer.height)

    async def _commit_definition(self, definition: ChaincodeDefinition, peers: Sequence[Peer]) -> None:
        """In the orderer's name: a peer is no writer of the channel, and devnet has no client's key."""
        creator, ledger = _orderer_signer(self.config), peers[0].ledger
        package_id = configured_package(definition.name, definition.version).package_id
        approvals = {peer.msp_id: package_id if definition.name in peer.chaincodes.configured else "" for peer in peers}
        try:
            transaction = commit_definition(
                ledger, self.config.channel, definition, creator, [peer.signer for peer in peers], approvals
            )
        except ValueError as error:
            raise ConfigError(f"chaincode {definition.name}: {error}") from error
        if transaction is None:
            return
        for peer in peers:
            peer.transient.persist(transaction.tx_id, ledger.height, transaction.private or b"")
        await self._orderer.submit(transaction.envelope)
        await ledger.wait_for_height(self._orderer.height)


def _check_channel(config: DevnetConfig, orderer: Orderer) -> None:
    """A data folder that some other network has left is not taken for this one's."""
    founded = config_of(orderer.block_bytes(0))
    ours = {member.msp_id for member in config.organizations} & set(application_organizations(founded))
    if not ours or config.orderer.msp_id not in section(founded, "Orderer").groups:
        raise ConfigError(f"{config.data_dir} holds a channel of other organizations")


def _genesis_block(config: DevnetConfig) -> bytes:
    if config.genesis_block is not None:
        return config.genesis_block.read_bytes()
    folders = {member.msp_id: member.msp_dir for member in config.organizations}
    msps = MspRegistry.from_dirs({**folders, config.orderer.msp_id: config.orderer.msp_dir})
    batch = BatchSettings(config.batch.timeout_ms, config.batch.max_messages, config.batch.max_bytes)
    return genesis_block(_channel_settings(config, msps, batch))


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
        orderer_address=config.orderer.address or config.orderer.listen or "127.0.0.1:7050",
        orderer_certificate=(config.orderer.tls_cert or config.orderer.signing.cert).read_bytes(),
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
