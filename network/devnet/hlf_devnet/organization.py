"""One organization while it runs: peer, committer, chaincode connections, and the port that clients call."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

import grpc
from hlf.identity import SigningIdentity

from hlf_devnet import grpc_server
from hlf_devnet.access import AccessControl
from hlf_devnet.chaincode_requests import StateRequests, TransactionContext
from hlf_devnet.chaincode_stream import ChaincodeClient
from hlf_devnet.committer import Committer
from hlf_devnet.config import ChaincodeAddress, DevnetConfig, Organization
from hlf_devnet.deliver import DeliverService
from hlf_devnet.endorser import Endorser, EndorserService
from hlf_devnet.faults import Faults
from hlf_devnet.gateway import Gateway, GatewayService
from hlf_devnet.http2_stream import client_tls
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.orderer import Orderer
from hlf_devnet.peer import Peer
from hlf_devnet.planning import Members
from hlf_devnet.services import deliver_service, endorser_service, gateway_service
from hlf_devnet.system_chaincodes import SystemChaincodes
from hlf_devnet.transient import TransientStore
from hlf_devnet.validator import Validator


class RunningOrganization:
    """Made by `open`; `serve` lets clients in; `close` ends everything of it, and `open` may follow."""

    def __init__(
        self, config: DevnetConfig, organization: Organization, peer: Peer, committer: Committer, faults: Faults
    ) -> None:
        self.peer = peer
        self.endorser = Endorser(peer, SystemChaincodes(peer))
        self._config = config
        self._organization = organization
        self._server: grpc.aio.Server | None = None
        self._faults = faults
        requests = StateRequests(self.endorser.call, config.limits.total_query_limit, faults)
        timeout = config.limits.execute_timeout_seconds
        for name, server in organization.chaincodes.items():
            peer.chaincodes[name] = _chaincode_client(name, server, requests, timeout)
        work = [committer.run(), *(client.run() for client in peer.chaincodes.values())]
        self._tasks = [faults.watch(asyncio.create_task(one)) for one in work]

    @classmethod
    def open(
        cls,
        config: DevnetConfig,
        organization: Organization,
        access: AccessControl,
        orderer: Orderer,
        validator: Validator,
        others: Callable[[], Iterable[TransientStore]],
        faults: Faults,
    ) -> Self:
        folder = config.data_dir / organization.msp_id
        folder.mkdir(parents=True, exist_ok=True)
        ledger = PeerLedger.open(folder, organization.msp_id, config.channel)
        transient = TransientStore.open(folder)
        signer = SigningIdentity.from_msp_dir(organization.peer.identity_dir, organization.msp_id)
        peer = Peer(organization.msp_id, organization.peer.listen, signer, access, ledger, transient, {})
        committer = Committer(orderer, validator, ledger, transient, others)
        committer.listeners.append(peer.on_commit)
        return cls(config, organization, peer, committer, faults)

    async def serve(self, members: Callable[[], Members], orderer: Orderer, calls: grpc_server.Calls) -> None:
        """Starts answering clients; raises AddressInUse."""
        limits = self._config.limits
        gateway = GatewayService(Gateway(self.endorser, members, orderer))
        deliver = DeliverService(self.peer)
        services = [
            gateway_service(gateway, limits),
            deliver_service(deliver, limits),
            endorser_service(EndorserService(self.endorser), limits),
        ]
        peer = self._organization.peer
        certificate, key = peer.tls_cert.read_bytes(), peer.tls_key.read_bytes()
        self._server = grpc_server.create(peer.listen, (certificate, key), services, calls, self._faults)
        await self._server.start()

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        self.peer.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # what failed is reported
        self.peer.transient.close()
        self.peer.ledger.close()


def _chaincode_client(
    name: str, server: ChaincodeAddress, requests: StateRequests, timeout_seconds: float
) -> ChaincodeClient[TransactionContext]:
    ca_file = server.tls_ca_file
    return ChaincodeClient(
        name,
        server.address,
        requests,
        tls=None if ca_file is None else client_tls(ca_file.read_text(encoding="ascii")),
        server_name=server.server_name,
        dial_timeout_seconds=server.dial_timeout_seconds,
        execute_timeout_seconds=timeout_seconds,
    )
