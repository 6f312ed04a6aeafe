"""The three identities with which a hospital starts, all from its CA: registrar, administrator, services.

Their MSP folders are made once. The registrar may register people and revoke them; it stays in the secrets of the
registration service. `Admin` signs for the hospital on the channel and at the APIs; `service` reads blocks and shares
snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emr_model.ledger.functions import Role
from hlf.ca import CaClient
from hlf.certs import private_key_to_pem
from hlf.identity import SigningIdentity

from emr_network.devnet import REGISTRAR, registrar_secret
from emr_network.home import Home
from emr_network.material import peer_organization, write_identity
from emr_network.ports import Ports
from emr_network.topology import Organization

ADMIN = "admin"
SERVICE = "service"
FOLDER_OF_ADMIN = "Admin"


@dataclass(frozen=True)
class Enrolment:
    """Enrols a hospital's fixed identities at its CA."""

    home: Home
    organization: Organization
    ports: Ports

    @property
    def registrar_folder(self) -> Path:
        return self.home.secret(self.organization.name, "registrar")

    @property
    def admin_folder(self) -> Path:
        return peer_organization(self.home, self.organization).user(FOLDER_OF_ADMIN)

    @property
    def service_folder(self) -> Path:
        return peer_organization(self.home, self.organization).user(SERVICE)

    def client(self) -> CaClient:
        folder = peer_organization(self.home, self.organization)
        url = f"https://{self.ports.address(f'ca-{self.organization.name}')}"
        return CaClient(url, tls_ca_pem=folder.tls_ca_certificate.read_bytes(), ca_name=self.organization.ca_name)

    async def enrol_missing(self) -> bool:
        """Gives each of the three its folder. False when all were there. Raises CaError."""
        folders = (self.registrar_folder, self.admin_folder, self.service_folder)
        if all(_is_complete(folder) for folder in folders):
            return False
        async with self.client() as client:
            if not _is_complete(self.registrar_folder):
                secret = registrar_secret(self.home, self.organization).read_text()
                await self._enrol(client, REGISTRAR, secret, self.registrar_folder)
            registrar = SigningIdentity.from_msp_dir(self.registrar_folder, self.organization.msp_id)
            await self._register(client, registrar, ADMIN, "admin", Role.ADMIN, self.admin_folder)
            await self._register(client, registrar, SERVICE, "client", Role.SERVICE, self.service_folder)
        return True

    async def _register(
        self, client: CaClient, registrar: SigningIdentity, name: str, kind: str, role: Role, folder: Path
    ) -> None:
        """Keeps the enrolment secret until the folder is there: a start that was cut short goes on with it."""
        if _is_complete(folder):
            return
        kept = self.home.secret(self.organization.name, f"{name}-enrolment-secret")
        if not kept.exists():
            secret = await client.register(registrar, name, type=kind, attributes={"emr.role": role.value})
            self.home.write_secret(kept, secret)
        await self._enrol(client, name, kept.read_text(), folder)
        kept.unlink()

    async def _enrol(self, client: CaClient, name: str, secret: str, folder: Path) -> None:
        enrolled = await client.enroll(name, secret)
        assert enrolled.private_key is not None
        roots = peer_organization(self.home, self.organization).roots()
        write_identity(self.home, folder, enrolled.certificate_pem, private_key_to_pem(enrolled.private_key), roots)


def _is_complete(folder: Path) -> bool:
    return (folder / "signcerts" / "cert.pem").exists()
