"""A devnet of two hospitals in a folder, as processes: devnet itself, and a chaincode server for each hospital.

async with running_devnet(tmp_path) as devnet:
    async with devnet.gateway("HospitalA") as gateway:
        contract = gateway.contract(devnet.member("HospitalA"), devnet.channel, devnet.chaincode)
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem
from hlf.gateway import Endpoint, Gateway, Timeouts
from hlf.identity import SigningIdentity
from support.ports import free_address
from support.processes import standing_still

MSP_IDS = ("HospitalA", "HospitalB")
ORDERER_MSP_ID = "Orderer"
POLICY = "AND('HospitalA.peer','HospitalB.peer')"
READY_SECONDS = 120.0
TESTS = Path(__file__).resolve().parent.parent
NODE_OUS = ("client", "peer", "admin", "orderer")


@dataclass(frozen=True)
class Member:
    """An organization with everything that makes certificates for it, in Fabric's MSP folder layout."""

    msp_id: str
    folder: Path
    authority: CertificateAuthority
    tls_authority: CertificateAuthority
    peer_address: str = field(default_factory=free_address)
    chaincode_address: str = field(default_factory=free_address)

    @property
    def domain(self) -> str:
        return f"{self.msp_id.lower()}.example"

    @property
    def msp_dir(self) -> Path:
        return self.folder / "msp"

    @property
    def crl_file(self) -> Path:
        return self.msp_dir / "crls" / "revoked.pem"

    def identity(
        self,
        name: str = "somebody",
        *,
        role: str = "client",
        attributes: Mapping[str, str] | None = None,
        not_after: datetime | None = None,
        now: datetime | None = None,
    ) -> SigningIdentity:
        key = new_private_key()
        certificate = self.authority.issue(
            name,
            key.public_key(),
            organizational_units=[role] if role else [],
            attributes=attributes,
            not_after=not_after,
            now=now,
        )
        return SigningIdentity(self.msp_id, certificate_to_pem(certificate), key)

    def write(self) -> None:
        """The verifying MSP, the peer's (or orderer's) own MSP, and a TLS certificate for this machine."""
        role = "orderer" if self.msp_id == ORDERER_MSP_ID else "peer"
        signer = self.identity(f"{role}0.{self.domain}", role=role)
        _write_verifying_msp(self.msp_dir, self.authority, self.tls_authority)
        write_identity(self.folder / "node", self, signer.certificate_pem, private_key_to_pem(signer.private_key))
        key = new_private_key()
        names = (f"{role}0.{self.domain}", "localhost", "127.0.0.1")
        certificate = self.tls_authority.issue(names[0], key.public_key(), purpose=Purpose.TLS, sans=names)
        _write(self.folder / "tls.crt", certificate_to_pem(certificate))
        _write(self.folder / "tls.key", private_key_to_pem(key))


def write_identity(folder: Path, member: Member, certificate_pem: bytes, private_key_pem: bytes) -> None:
    """The MSP folder of one of its members."""
    _write_verifying_msp(folder, member.authority, member.tls_authority)
    _write(folder / "signcerts" / "cert.pem", certificate_pem)
    _write(folder / "keystore" / "key.pem", private_key_pem)


def new_member(msp_id: str, folder: Path) -> Member:
    """Its authorities are a month old, so that they can have issued what has expired since."""
    a_month_ago = datetime.now(UTC) - timedelta(days=30)
    member = Member(
        msp_id,
        folder,
        CertificateAuthority.create(f"ca.{msp_id}", msp_id, now=a_month_ago),
        CertificateAuthority.create(f"tlsca.{msp_id}", msp_id, now=a_month_ago),
    )
    member.write()
    return member


class Network(Protocol):
    """What a Devnet and a network of official peers (`support.fabric`) both offer."""

    @property
    def folder(self) -> Path: ...
    @property
    def members(self) -> Mapping[str, Member]: ...
    @property
    def channel(self) -> str: ...
    @property
    def chaincode(self) -> str: ...
    def member(self, msp_id: str = ..., name: str = ..., **options: Any) -> SigningIdentity: ...
    def endpoint(self, msp_id: str) -> Endpoint: ...
    @property
    def orderer_endpoint(self) -> Endpoint: ...
    async def open_peer(self, msp_id: str) -> None:
        """Starts a peer of one more organization; it has joined nothing."""

    async def close_peer(self, msp_id: str) -> None:
        """Ends it for good."""

    def gateway(self, msp_id: str = ..., timeouts: Timeouts | None = ...) -> Gateway: ...
    async def start_chaincode(self, msp_id: str, *arguments: str) -> None: ...
    async def start_server(self, name: str, address: str, chaincode_id: str, *arguments: str) -> None:
        """One more chaincode server, which belongs to no hospital's own."""

    async def stop_chaincode(self, msp_id: str) -> None: ...
    async def start_peer(self, msp_id: str) -> None: ...
    async def stop_peer(self, msp_id: str) -> None: ...
    def hanging(self, msp_id: str) -> AbstractAsyncContextManager[None]: ...
    def peer_hanging(self, msp_id: str) -> AbstractContextManager[None]:
        """The hospital's peer stands still, its connections open; on devnet all do, for they are one process."""


@dataclass
class Devnet:
    """What runs, and the ways to talk to it, stop parts of it, kill all of it and start it again."""

    folder: Path
    members: dict[str, Member]
    chaincode_command: Sequence[str]
    settings: Mapping[str, Any]
    msp_ids: Sequence[str] = MSP_IDS
    channel: str = "care"
    chaincode: str = "conformance"
    control_address: str = field(default_factory=free_address)
    process: asyncio.subprocess.Process | None = None
    chaincode_processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    servers: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "devnet.log"

    @property
    def endorsement(self) -> dict[str, Any]:
        """Two hospitals endorse everything; of more, a majority: the channel's policy is devnet's default."""
        return {"endorsement": {"signature": POLICY}} if self.msp_ids == MSP_IDS else {}

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
        section = self.section_of(self.members[msp_id])
        await self._control("POST", "/organizations", {**section, "chaincodes": {}})

    async def close_peer(self, msp_id: str) -> None:
        await self._control("DELETE", f"/organizations/{msp_id}")

    async def status(self) -> dict[str, Any]:
        return await self._control("GET", "/status")

    async def stop_peer(self, msp_id: str) -> None:
        await self._control("POST", f"/organizations/{msp_id}/stop")

    async def start_peer(self, msp_id: str) -> None:
        await self._control("POST", f"/organizations/{msp_id}/start")

    async def _control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            response = await http.request(method, f"http://{self.control_address}{path}", json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    async def start(self) -> None:
        """Returns once devnet answers and every chaincode that runs is connected."""
        self.process = await self._spawn("devnet", ["-m", "hlf_devnet", str(self.write_config())])
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready():
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise AssertionError(f"devnet is not ready: {self.log.read_text()[-2000:]}") from error

    async def start_chaincode(self, msp_id: str, *arguments: str) -> None:
        """The hospital's chaincode server; `arguments` follow address and chaincode id."""
        command = [*self.chaincode_command, self.members[msp_id].chaincode_address, f"{self.chaincode}:1", *arguments]
        self.chaincode_processes[msp_id] = await self._spawn(f"chaincode-{msp_id}", command)

    async def start_server(self, name: str, address: str, chaincode_id: str, *arguments: str) -> None:
        command = [*self.chaincode_command, address, chaincode_id, *arguments]
        self.servers.append(await self._spawn(name, command))

    async def wait_for_package(self, msp_id: str, package_id: str) -> None:
        """Until the hospital's peer is connected to that package's server."""
        async with asyncio.timeout(READY_SECONDS):
            while not self._of(msp_id, await self.status())["packages"].get(package_id):
                await asyncio.sleep(0.05)

    @staticmethod
    def _of(msp_id: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = next(one for one in status["organizations"] if one["msp_id"] == msp_id)
        return found

    async def wait_for_chaincode(self, msp_id: str, *, connected: bool = True) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while self._connected(await self.status()).get(msp_id) is not connected:
                await asyncio.sleep(0.05)

    async def stop_chaincode(self, msp_id: str) -> None:
        """As a crash would."""
        process = self.chaincode_processes.pop(msp_id)
        process.kill()
        await process.wait()
        await self.wait_for_chaincode(msp_id, connected=False)

    @asynccontextmanager
    async def hanging(self, msp_id: str) -> AsyncIterator[None]:
        """A hospital that takes a proposal and does not answer: its chaincode stands still."""
        with standing_still(self.chaincode_processes[msp_id].pid):
            yield

    def peer_hanging(self, _msp_id: str) -> AbstractContextManager[None]:
        assert self.process is not None
        return standing_still(self.process.pid)

    async def kill(self) -> None:
        """kill -9 of devnet; the chaincodes stay."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        return await self._end(signal.SIGTERM)

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.stop()
        for process in (*self.chaincode_processes.values(), *self.servers):
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()

    async def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.returncode is not None:
            raise AssertionError(f"devnet ended: {self.log.read_text()[-2000:]}")
        try:
            connected = self._connected(await self.status())
        except httpx.TransportError:
            return False
        return all(connected[msp_id] for msp_id in self.chaincode_processes)

    def _connected(self, status: Mapping[str, Any]) -> dict[str, bool]:
        organizations = status["organizations"]
        return {one["msp_id"]: one["chaincodes"].get(self.chaincode, False) for one in organizations}

    async def _spawn(self, name: str, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(TESTS)}
            )

    def write_config(self) -> Path:
        orderer = self.members[ORDERER_MSP_ID]
        config = {
            "channel": self.channel,
            "data_dir": "data",
            "batch": {"timeout_ms": 20, "max_messages": 24, "max_bytes": 8 * 1024 * 1024},
            "orderer": {
                "msp_id": orderer.msp_id,
                "msp_dir": str(orderer.msp_dir),
                "signing": {
                    "cert": str(orderer.folder / "node" / "signcerts" / "cert.pem"),
                    "key": str(orderer.folder / "node" / "keystore" / "key.pem"),
                },
                "listen": orderer.peer_address,
                "tls_cert": str(orderer.folder / "tls.crt"),
                "tls_key": str(orderer.folder / "tls.key"),
            },
            "organizations": [self.section_of(self.members[msp_id]) for msp_id in self.msp_ids],
            "chaincodes": [
                {
                    "name": self.chaincode,
                    "version": "1.0",
                    "sequence": 1,
                    **self.endorsement,
                }
            ],
            "control": {"listen": self.control_address},
            **self.settings,
        }
        path = self.folder / "devnet.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def section_of(self, member: Member) -> dict[str, Any]:
        return {
            "msp_id": member.msp_id,
            "msp_dir": str(member.msp_dir),
            "peer": {
                "name": f"peer0.{member.domain}",
                "listen": member.peer_address,
                "identity_dir": str(member.folder / "node"),
                "tls_cert": str(member.folder / "tls.crt"),
                "tls_key": str(member.folder / "tls.key"),
            },
            "chaincodes": {self.chaincode: {"address": member.chaincode_address}},
        }


def new_devnet(
    folder: Path,
    *,
    chaincode_command: Sequence[str] = ("-m", "support.conformance_chaincode"),
    settings: Mapping[str, Any] | None = None,
    msp_ids: Sequence[str] = MSP_IDS,
) -> Devnet:
    """Certificates and addresses; nothing runs yet. `chaincode_command` is what this interpreter is given, before
    address and chaincode id; `settings` replace parts of devnet's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    members = {msp_id: new_member(msp_id, folder / msp_id) for msp_id in (*msp_ids, ORDERER_MSP_ID)}
    return Devnet(folder, members, chaincode_command, settings or {}, msp_ids)


@asynccontextmanager
async def running_devnet(folder: Path, *, chaincodes: Sequence[str] = MSP_IDS, **options: Any) -> AsyncIterator[Devnet]:
    """`chaincodes`: the hospitals whose chaincode is started; `options` as those of `new_devnet`."""
    devnet = new_devnet(folder, **options)
    try:
        for msp_id in chaincodes:
            await devnet.start_chaincode(msp_id)
        await devnet.start()
        yield devnet
    finally:
        await devnet.close()


def _write_verifying_msp(folder: Path, authority: CertificateAuthority, tls: CertificateAuthority) -> None:
    _write(folder / "cacerts" / "ca.pem", authority.certificate_pem)
    _write(folder / "tlscacerts" / "tlsca.pem", tls.certificate_pem)
    units = {
        f"{role.capitalize()}OUIdentifier": {
            "Certificate": "cacerts/ca.pem",
            "OrganizationalUnitIdentifier": role,
        }
        for role in NODE_OUS
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"NodeOUs": {"Enable": True, **units}}))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
