"""The same network as `support.devnet`, of official peers and an official orderer: native processes, free ports.

    async with running_fabric(tmp_path) as fabric:
        async with fabric.gateway("HospitalA") as gateway:
            contract = gateway.contract(fabric.member("HospitalA"), fabric.channel, fabric.chaincode)

The programs come from FABRIC_BIN or PATH; ProgramsMissing is raised where there are none.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from emr_network.fabric.channel import FabricChannel, OrderingService
from emr_network.fabric.channel import Member as ChannelMember
from emr_network.fabric.nodes import OrdererNode, PeerNode, Tls
from emr_network.fabric.programs import Programs
from emr_network.waiting import eventually
from hlf import policies
from hlf.admin.channel import BatchSettings
from hlf.admin.lifecycle import ChaincodeDefinition
from hlf.admin.packaging import ServiceAddress, package
from hlf.admin.peer import PeerAdmin
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem
from hlf.errors import HlfError
from hlf.gateway import Endpoint, Gateway, Timeouts
from hlf.identity import SigningIdentity
from support.devnet import MSP_IDS, ORDERER_MSP_ID, POLICY, TESTS, Member, new_member
from support.ports import free_address
from support.processes import standing_still

STOP_SECONDS = 20
NODES = ("orderer", *MSP_IDS)


@dataclass
class Fabric:
    """What runs, and the ways to talk to it and to stop parts of it."""

    folder: Path
    programs: Programs
    members: dict[str, Member]
    channel_setup: FabricChannel
    chaincode_command: Sequence[str]
    msp_ids: Sequence[str] = MSP_IDS
    channel: str = "care"
    chaincode: str = "conformance"
    package_ids: Mapping[str, str] = field(default_factory=dict)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    further: dict[str, ChannelMember] = field(default_factory=dict)
    """Organizations that were not there from the start."""

    def member(self, msp_id: str = "HospitalA", name: str = "somebody", **options: Any) -> SigningIdentity:
        """A new client of `msp_id`; `options` as those of `Member.identity`."""
        return self.members[msp_id].identity(name, **options)

    def endpoint(self, msp_id: str) -> Endpoint:
        member = self.members[msp_id]
        return Endpoint(member.peer_address, member.tls_authority.certificate_pem)

    @property
    def orderer_endpoint(self) -> Endpoint:
        return self.endpoint(ORDERER_MSP_ID)

    def gateway(self, msp_id: str = "HospitalA", timeouts: Timeouts | None = None) -> Gateway:
        return Gateway([self.endpoint(msp_id)], timeouts)

    async def open_peer(self, msp_id: str) -> None:
        if msp_id not in self.members:
            self.members[msp_id] = new_member(msp_id, self.folder / msp_id)
            self.further[msp_id] = _channel_member(self.members[msp_id], self.folder)
        await self.start_node(msp_id)
        async with PeerAdmin(self.endpoint(msp_id), self.further[msp_id].admin) as peer:
            await eventually(peer.channels)

    async def close_peer(self, msp_id: str) -> None:
        await self._end(msp_id)

    async def start(self) -> None:
        """Returns once every organization's gateway plans a transaction of all of them."""
        await self.start_node("orderer")
        for msp_id in MSP_IDS:
            await self.start_node(msp_id)
        await self.channel_setup.create(self.channel_setup.genesis(self.folder / "genesis.block"))
        definition = ChaincodeDefinition(self.chaincode, "1.0", 1, policies.parse(POLICY))
        self.package_ids = await self.deploy(definition, {one: self.members[one].chaincode_address for one in MSP_IDS})
        for msp_id in MSP_IDS:
            await self.start_chaincode(msp_id)
        await self.settle()

    async def deploy(self, definition: ChaincodeDefinition, addresses: Mapping[str, str]) -> dict[str, str]:
        """Package ids by MSP id; `addresses` are those of the chaincode servers."""
        label = f"{definition.name}_{definition.version}"
        packages = {msp_id: package(label, ServiceAddress(address)) for msp_id, address in addresses.items()}
        await self.channel_setup.deploy(definition, packages)
        return {msp_id: made.package_id for msp_id, made in packages.items()}

    async def settle(self) -> None:
        """A gateway knows the other organizations' peers only when gossip has found them."""
        for msp_id in MSP_IDS:
            async with self.gateway(msp_id) as gateway:
                contract = gateway.contract(self.member(msp_id), self.channel, self.chaincode)
                await eventually(
                    contract.propose("put", "ready", "yes", endorsing_organizations=MSP_IDS).endorse, _passes
                )

    async def start_node(self, name: str) -> None:
        """`orderer`, or the peer of an MSP id."""
        if name == "orderer":
            node, command = self.channel_setup.ordering.nodes[0], [str(self.programs.orderer)]
            node.prepare()
            self.processes[name] = await self._spawn(name, command, node.environment())
        else:
            members = (*self.channel_setup.members, *self.further.values())
            peer = next(one.peers[0] for one in members if one.msp_id == name)
            peer.prepare()
            self.processes[name] = await self._spawn(
                name, [str(self.programs.peer), "node", "start"], peer.environment()
            )

    async def stop_peer(self, msp_id: str) -> None:
        await self._end(msp_id)

    async def start_peer(self, msp_id: str) -> None:
        await self.start_node(msp_id)
        await self.settle()

    async def start_chaincode(self, msp_id: str, *arguments: str) -> None:
        """The hospital's chaincode server; `arguments` follow address and chaincode id."""
        address, package_id = self.members[msp_id].chaincode_address, self.package_ids[msp_id]
        command = [sys.executable, *self.chaincode_command, address, package_id, *arguments]
        self.processes[f"chaincode-{msp_id}"] = await self._spawn(
            f"chaincode-{msp_id}", command, {"PYTHONPATH": str(TESTS)}
        )

    async def start_server(self, name: str, address: str, chaincode_id: str, *arguments: str) -> None:
        command = [sys.executable, *self.chaincode_command, address, chaincode_id, *arguments]
        self.processes[name] = await self._spawn(name, command, {"PYTHONPATH": str(TESTS)})

    async def stop_chaincode(self, msp_id: str) -> None:
        """As a crash would."""
        process = self.processes.pop(f"chaincode-{msp_id}")
        process.kill()
        await process.wait()

    @asynccontextmanager
    async def hanging(self, msp_id: str) -> AsyncIterator[None]:
        """A hospital whose peer stands still."""
        with self.peer_hanging(msp_id):
            yield

    def peer_hanging(self, msp_id: str) -> AbstractContextManager[None]:
        return standing_still(self.processes[msp_id].pid)

    async def close(self) -> None:
        for name in list(self.processes):
            await self._end(name)

    async def _end(self, name: str) -> None:
        process = self.processes.pop(name)
        if process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "VIRTUAL_ENV") if key in os.environ}
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, env={**inherited, **environment}
            )


def new_fabric(
    folder: Path,
    *,
    chaincode_command: Sequence[str] = ("-m", "support.conformance_chaincode"),
    msp_ids: Sequence[str] = MSP_IDS,
) -> Fabric:
    """Certificates and addresses; nothing runs yet. Raises ProgramsMissing."""
    programs = Programs.find()
    folder.mkdir(parents=True, exist_ok=True)
    members = {msp_id: new_member(msp_id, folder / msp_id) for msp_id in (*msp_ids, ORDERER_MSP_ID)}
    channel_members = tuple(_channel_member(members[msp_id], folder) for msp_id in msp_ids)
    batch = BatchSettings(timedelta(milliseconds=50), max_messages=24)
    channel = FabricChannel("care", channel_members, _ordering(members[ORDERER_MSP_ID], folder), batch)
    return Fabric(folder, programs, members, channel, chaincode_command, msp_ids)


@asynccontextmanager
async def running_fabric(folder: Path, **options: Any) -> AsyncIterator[Fabric]:
    """`options` as those of `new_fabric`."""
    fabric = new_fabric(folder, **options)
    try:
        await fabric.start()
        yield fabric
    finally:
        await fabric.close()


def _passes(failure: HlfError) -> bool:
    is_starting = failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)
    return is_starting or bool(failure.unavailable_organizations)


def _channel_member(member: Member, folder: Path) -> ChannelMember:
    peer = PeerNode(
        name=f"peer0.{member.domain}",
        msp_id=member.msp_id,
        msp=member.folder / "node",
        tls=_tls(member),
        address=member.peer_address,
        chaincode_address=free_address(),
        operations_address=free_address(),
        data=folder / f"data-{member.msp_id}",
    )
    return ChannelMember(member.msp_id, member.msp_dir, (peer,), member.identity("admin", role="admin"))


def _ordering(member: Member, folder: Path) -> OrderingService:
    admin_authority, admin_certificate = _admin_tls(folder / "orderer-admin")
    orderer = OrdererNode(
        name=f"orderer0.{member.domain}",
        msp_id=member.msp_id,
        msp=member.folder / "node",
        tls=_tls(member),
        address=member.peer_address,
        admin_address=free_address(),
        admin_tls=_tls(member),
        admin_client_ca=admin_authority,
        operations_address=free_address(),
        data=folder / "data-orderer",
    )
    return OrderingService(member.msp_id, member.msp_dir, (orderer,), admin_certificate)


def _tls(member: Member) -> Tls:
    return Tls(member.folder / "tls.crt", member.folder / "tls.key", member.msp_dir / "tlscacerts" / "tlsca.pem")


def _admin_tls(folder: Path) -> tuple[Path, tuple[Path, Path]]:
    """An authority for administrators alone: any certificate of it administers the orderer."""
    authority = CertificateAuthority.create("admin-ca", ORDERER_MSP_ID)
    key = new_private_key()
    certificate = authority.issue("administrator", key.public_key(), purpose=Purpose.TLS)
    folder.mkdir(parents=True)
    paths = [folder / name for name in ("ca.crt", "admin.crt", "admin.key")]
    contents = [authority.certificate_pem, certificate_to_pem(certificate), private_key_to_pem(key)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths[0], (paths[1], paths[2])
