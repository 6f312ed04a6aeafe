"""Brings each process what it may read, from the operator's EMR_HOME into the folder of that process.

What is delivered is the operator's and readable by the group of its folder (`places.py`): nobody else reads it, and the
process itself cannot change it. A delivery may be repeated at any time; what a process lacks before `found` has run
comes with the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emr_network.fabric.ca import CONFIGURATION
from emr_network.fabric.nodes import write_peer_configuration
from emr_network.home import Home
from emr_network.material import orderer_organization, peer_organization
from emr_network.ports import SERVICES, Ports, orderer_ports
from emr_network.topology import Chaincode, Organization, Topology

from emr_deploy.compose.nodes import ca_configuration, orderer_node
from emr_deploy.compose.places import CONTRACT_SLOTS, ISSUER, ORDERING, RUN, STORES, hospital_volume
from emr_deploy.networks.base import Site, package_of
from emr_deploy.programs import environment_of

FILES: Mapping[str, str] = {
    "EMR_LEDGER__TLS_CA_FILE": "tls-ca.pem",
    "EMR_LEDGER__IDENTITY_DIR": "identity",
    "EMR_DATABASE__URL_FILE": "database-url",
    "EMR_WALLET__KEYSET_FILE": "wallet.keyset",
    "EMR_SEALING__WRAPPING_KEYSET_FILE": "wrapping.keyset",
    "EMR_SEALING__PRIVATE_KEYSET_FILE": "sealing-private.keyset",
    "EMR_PSEUDONYM__KEY_FILE": "pseudonym.key",
    "EMR_PSEUDONYM__IDENTIFIER_KEY_FILE": "identifier.key",
    "EMR_CA__TLS_CA_FILE": "tls-ca.pem",
    "EMR_CA__REGISTRAR_DIR": "registrar",
}
"""What the file or folder that a setting names is called in the folder of the service."""
PACKAGE_ID = "package.id"


@dataclass(frozen=True)
class Delivery:
    """Deliveries of one EMR_HOME to the volumes mounted beneath `run`. `upcoming` is the contract that an upgrade is
    about to put in force."""

    home: Home
    topology: Topology
    ports: Ports
    run: Path = RUN
    upcoming: Chaincode | None = None

    def deliver(self) -> None:
        for organization in self.topology.organizations:
            self._to_hospital(organization)
        for number, name in enumerate(orderer_ports(self.topology), start=1):
            self._to_orderer(number, name)
        _copy(self.home.secret("postgres", "superuser-password"), self.run / STORES / "postgres" / "superuser-password")
        self._to_issuer()

    def _to_hospital(self, organization: Organization) -> None:
        volume = self.run / hospital_volume(organization)
        self._to_peer(organization, volume / "peer")
        self._to_ca(organization, volume / "ca")
        self._to_contracts(organization, volume)
        for service in SERVICES:
            for source, name in self._files_of(organization, service):
                _copy(source, volume / service / name)

    def _to_contracts(self, organization: Organization, volume: Path) -> None:
        """A place that is not in use keeps the id that it has: the version before may still run there."""
        site, current = Site(self.home, self.topology, self.ports), self.topology.chaincode
        in_slot: dict[int, Chaincode] = {one.slot: one for one in (current, self.upcoming) if one is not None}
        for number, name in enumerate(CONTRACT_SLOTS, start=1):
            kept = volume / name / PACKAGE_ID
            if number in in_slot or not kept.exists():
                package = package_of(site, organization, in_slot.get(number, current))
                _write(kept, package.package_id.encode())

    def _files_of(self, organization: Organization, service: str) -> Iterator[tuple[Path, str]]:
        settings = environment_of(self.home, organization, self.ports, service, 0)
        for variable, value in settings.items():
            if variable.endswith(("_FILE", "_DIR")):
                yield Path(value), FILES[variable]

    def _to_peer(self, organization: Organization, folder: Path) -> None:
        node = peer_organization(self.home, organization).node(organization.peer_name)
        for name in ("msp", "tls"):
            _copy(node / name, folder / name)
        made = self.home.fabric / f"peer-{organization.name}"
        write_peer_configuration(made, seen_as=RUN / "peer" / "config")
        _copy(made, folder / "config")

    def _to_ca(self, organization: Organization, folder: Path) -> None:
        authority = peer_organization(self.home, organization)
        _copy(authority.ca_certificate, folder / "ca-cert.pem")
        _copy(authority.ca_key, folder / "ca-key.pem")
        _copy(authority.ca_tls, folder / "tls")
        _write(folder / CONFIGURATION, ca_configuration(self.home, organization).encode())

    def _to_orderer(self, number: int, name: str) -> None:
        organization = orderer_organization(self.home, self.topology)
        node, folder = orderer_node(self.topology, number, name), self.run / ORDERING / name
        for part in ("msp", "tls"):
            _copy(organization.node(node.name) / part, folder / part)
        _copy(organization.administration / "ca.crt", folder / node.admin_client_ca.name)
        _write(folder / "orderer.yaml", node.configuration().encode())

    def _to_issuer(self) -> None:
        """The issuer's volume is an EMR_HOME of its own. What it knows of clients, which `emr token` adds to, is there
        alone."""
        home = Home(self.run / ISSUER)
        _write(home.topology, self.home.topology.read_bytes())
        _write(home.ports, self.home.ports.read_bytes())
        for organization in self.topology.organizations:
            key = self.home.secret(organization.name, "issuer.key")
            home.write_secret(home.secret(organization.name, key.name), key.read_bytes())
            for name in ("clients", "client-jwks"):
                _share(self.home.secret(organization.name, name), home.secret(organization.name, name))


def _share(link: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    if not link.is_symlink():
        link.symlink_to(folder)


def _copy(source: Path, target: Path) -> None:
    """A file or a folder with all that is in it; nothing where there is no source yet."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for entry in source.iterdir():
            _copy(entry, target / entry.name)
    elif source.exists():
        _write(target, source.read_bytes(), executable=bool(source.stat().st_mode & 0o100))


def _write(target: Path, content: bytes, *, executable: bool = False) -> None:
    """The file is whole or as it was; its group is that of the folder, whose set-group-id bit sees to it."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.chmod(0o550 if executable else 0o440)
    partial.replace(target)
