"""One organization while it runs: peer, committer, chaincode connections, and the port that clients call."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import grpc
from fabric_protos.common import common_pb2
from hlf.identity import SigningIdentity

from hlf_devnet import grpc_server
from hlf_devnet.access import AccessControl
from hlf_devnet.blockstore import header_hash
from hlf_devnet.bundle import Bundles
from hlf_devnet.chaincode_requests import StateRequests, TransactionContext
from hlf_devnet.chaincode_stream import ChaincodeClient
from hlf_devnet.chaincodes import Chaincodes
from hlf_devnet.committer import Committer
from hlf_devnet.config import ChaincodeAddress, DevnetConfig, Organization
from hlf_devnet.deliver import DeliverService
from hlf_devnet.endorser import Endorser, EndorserService
from hlf_devnet.faults import Faults
from hlf_devnet.gateway import Gateway, GatewayService
from hlf_devnet.http2_stream import client_tls
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.msp import MspRegistry
from hlf_devnet.orderer import Orderer
from hlf_devnet.packages import Connection, PackageStore
from hlf_devnet.peer import JoinRefused, Peer
from hlf_devnet.planning import Members
from hlf_devnet.services import deliver_service, endorser_service, gateway_service
from hlf_devnet.system_chaincodes import SystemChaincodes
from hlf_devnet.transient import TransientStore
from hlf_devnet.validator import Validator


@dataclass(frozen=True)
class Channel:
    """What all peers of the process share."""

    config: DevnetConfig
    bundles: Bundles
    orderer: Orderer
    validator: Validator
    faults: Faults


class RunningOrganization:
    """Made by `open`; `serve` lets clients in; `close` ends everything of it, and `open` may follow."""

    def __init__(self, channel: Channel, organization: Organization, peer: Peer, committer: Committer) -> None:
        self.peer = peer
        self.endorser = Endorser(peer, SystemChaincodes(peer, self.join))
        self._channel = channel
        self._organization = organization
        self._committer = committer
        self._server: grpc.aio.Server | None = None
        self._joining = asyncio.Lock()
        self._joined = asyncio.Event()
        if peer.has_joined:
            self._joined.set()
        self._following = channel.faults.watch(asyncio.create_task(self._follow()))
        limits = channel.config.limits
        requests = StateRequests(self.endorser.call, limits.total_query_limit, channel.faults)

        def connect(package_id: str, connection: Connection) -> ChaincodeClient[TransactionContext]:
            return ChaincodeClient(
                package_id,
                connection.address,
                requests,
                tls=connection.tls,
                server_name=connection.server_name,
                dial_timeout_seconds=connection.dial_timeout_seconds,
                execute_timeout_seconds=limits.execute_timeout_seconds,
            )

        peer.chaincodes.serve(connect, channel.faults.watch)

    @classmethod
    def open(cls, channel: Channel, organization: Organization, others: Callable[[], Iterable[TransientStore]]) -> Self:
        """LedgerCorrupt, and MspError, OSError or ValueError when its certificates cannot be used."""
        msp_id, config, bundles = organization.msp_id, channel.config, channel.bundles
        signer = SigningIdentity.from_msp_dir(organization.peer.identity_dir, msp_id)
        local = MspRegistry.from_dirs({msp_id: organization.msp_dir}, bundles.signatures)
        folder = config.data_dir / msp_id
        folder.mkdir(parents=True, exist_ok=True)
        packages = PackageStore.open(folder / "chaincodes")
        ledger = PeerLedger.open(folder, msp_id, config.channel)
        transient = TransientStore.open(folder)
        access = AccessControl(config.channel, lambda: bundles.of(ledger.config), config.limits.time_window_seconds)
        configured = {name: _connection(server) for name, server in organization.chaincodes.items()}
        chaincodes: Chaincodes[TransactionContext] = Chaincodes(ledger, packages, configured)
        peer = Peer(msp_id, organization.peer.listen, signer, access, local, ledger, transient, chaincodes)
        committer = Committer(channel.orderer, channel.validator, ledger, transient, others)
        committer.listeners.append(peer.on_commit)
        return cls(channel, organization, peer, committer)

    async def join(self, genesis_block: bytes) -> None:
        """Joins the channel with its block 0; the peer then fetches the blocks after it. JoinRefused."""
        async with self._joining:
            self._check_joining(genesis_block)
            await self._committer.join(self._channel.orderer.block_bytes(0))
            self._joined.set()

    def _check_joining(self, genesis_block: bytes) -> None:
        name = self._channel.config.channel
        if self.peer.has_joined:
            raise JoinRefused(f"ledger [{name}] already exists with state [ACTIVE]")
        given = common_pb2.Block.FromString(genesis_block).header
        if given.number != 0:
            raise JoinRefused(f"cannot create ledger from genesis block: it has number {given.number}")
        if header_hash(given) != header_hash(common_pb2.Block.FromString(self._channel.orderer.block_bytes(0)).header):
            raise JoinRefused(f"devnet has one channel, and this is not the genesis block of {name}")

    async def serve(self, members: Callable[[], Members], calls: grpc_server.Calls) -> None:
        """Starts answering clients; raises AddressInUse."""
        limits = self._channel.config.limits
        endorsement_seconds = limits.endorsement_timeout_seconds
        gateway = GatewayService(Gateway(self.endorser, members, self._channel.orderer, endorsement_seconds))
        peer = self.peer
        deliver = DeliverService(peer.ledger, peer.access, peer.serves)
        services = [
            gateway_service(gateway, limits),
            deliver_service(deliver, limits),
            endorser_service(EndorserService(self.endorser), limits),
        ]
        section = self._organization.peer
        certificate = section.tls_cert.read_bytes(), section.tls_key.read_bytes()
        self._server = grpc_server.create(section.listen, certificate, services, calls, self._channel.faults)
        await self._server.start()

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        self.peer.stop()
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)  # what failed is reported
        await self.peer.chaincodes.close()
        self.peer.transient.close()
        self.peer.ledger.close()

    async def _follow(self) -> None:
        await self._joined.wait()
        await self._committer.run()


def _connection(server: ChaincodeAddress) -> Connection:
    ca_file = server.tls_ca_file
    tls = None if ca_file is None else client_tls(ca_file.read_text(encoding="ascii"))
    return Connection(server.address, tls, server.server_name, server.dial_timeout_seconds)
