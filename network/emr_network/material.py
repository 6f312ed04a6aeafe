"""Certificates and keys of a network, in the folder layout that Fabric's own tools write and read.

An authority for identities and one for TLS per organization; each peer's and orderer's identity and TLS certificate; a
TLS certificate for the organization's CA. Identities of people, administrators and services come from the CA. The
organization that orders has no CA server: its administrator is made here, and so is the authority whose certificates
alone administer orderers (Fabric takes any certificate of that authority for an administrator's).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem

from emr_network.home import Home
from emr_network.topology import Organization, Topology

LOOPBACK = ("localhost", "127.0.0.1")
"""Every server of a development network listens here, whatever its name says."""


@dataclass(frozen=True)
class Roots:
    """The certificates by which an organization's members and servers are verified, PEM."""

    ca: bytes
    tls_ca: bytes


@dataclass(frozen=True)
class OrganizationFolder:
    """One organization's part of the layout."""

    root: Path
    domain: str

    @property
    def msp(self) -> Path:
        """What others need to verify its members."""
        return self.root / "msp"

    @property
    def crl(self) -> Path:
        return self.msp / "crls" / "revoked.pem"

    @property
    def ca_certificate(self) -> Path:
        return self.root / "ca" / f"ca.{self.domain}-cert.pem"

    @property
    def ca_key(self) -> Path:
        return self.root / "ca" / "priv_sk"

    @property
    def ca_tls(self) -> Path:
        return self.root / "ca" / "tls"

    @property
    def tls_ca_certificate(self) -> Path:
        return self.root / "tlsca" / f"tlsca.{self.domain}-cert.pem"

    @property
    def administration(self) -> Path:
        """For orderers: `ca.crt`, and the certificate `client.crt` and key by which they are administered."""
        return self.root / "users" / f"Admin@{self.domain}" / "tls"

    def roots(self) -> Roots:
        return Roots(self.ca_certificate.read_bytes(), self.tls_ca_certificate.read_bytes())

    def node(self, name: str) -> Path:
        return self.root / ("orderers" if name.startswith("orderer") else "peers") / name

    def user(self, name: str) -> Path:
        """The MSP folder of `name`, such as `Admin` or `service`."""
        return self.root / "users" / f"{name}@{self.domain}" / "msp"


def peer_organization(home: Home, organization: Organization) -> OrganizationFolder:
    return OrganizationFolder(home.organizations / "peerOrganizations" / organization.domain, organization.domain)


def orderer_organization(home: Home, topology: Topology) -> OrganizationFolder:
    domain = topology.orderer.domain
    return OrganizationFolder(home.organizations / "ordererOrganizations" / domain, domain)


def orderer_name(topology: Topology) -> str:
    return topology.orderer.node_name(1)


def make_material(home: Home, topology: Topology) -> None:
    """Makes what is missing; an organization that has its folder keeps all of it."""
    for organization in topology.organizations:
        folder = peer_organization(home, organization)
        if not folder.root.exists():
            peers = [organization.peer_host(number + 1) for number in range(organization.peers)]
            _make_organization(home, folder, peers, "peer")
    folder = orderer_organization(home, topology)
    if not folder.root.exists():
        orderers = [topology.orderer.node_name(number + 1) for number in range(topology.orderer.nodes)]
        _make_organization(home, folder, orderers, "orderer")


def _make_organization(home: Home, folder: OrganizationFolder, nodes: Sequence[str], unit: str) -> None:
    """Everything goes into a folder that then takes its final name: an organization is never half made."""
    partial = OrganizationFolder(folder.root.with_name(f".{folder.domain}.partial"), folder.domain)
    shutil.rmtree(partial.root, ignore_errors=True)
    authority = CertificateAuthority.create(f"ca.{folder.domain}", folder.domain)
    tls_authority = CertificateAuthority.create(f"tlsca.{folder.domain}", folder.domain)
    roots = Roots(authority.certificate_pem, tls_authority.certificate_pem)
    _write_authority(home, partial.ca_certificate, authority)
    _write_authority(home, partial.tls_ca_certificate, tls_authority)
    write_msp(partial.msp, roots)
    for node in nodes:
        write_identity(home, partial.node(node) / "msp", *_issued(authority, node, unit), roots)
        _write_tls(home, partial.node(node) / "tls", node, tls_authority)
    if unit == "orderer":
        write_identity(home, partial.user("Admin"), *_issued(authority, "admin", "admin"), roots)
        _write_administration(home, partial)
    else:
        _write_tls(home, partial.ca_tls, f"ca.{folder.domain}", tls_authority)
    partial.root.rename(folder.root)


def _issued(authority: CertificateAuthority, name: str, unit: str) -> tuple[bytes, bytes]:
    key = new_private_key()
    certificate = authority.issue(name, key.public_key(), organizational_units=[unit], sans=[name])
    return certificate_to_pem(certificate), private_key_to_pem(key)


def _write_administration(home: Home, folder: OrganizationFolder) -> None:
    authority = CertificateAuthority.create(f"adminca.{folder.domain}", folder.domain)
    key = new_private_key()
    certificate = authority.issue("administrator", key.public_key(), purpose=Purpose.TLS)
    home.write_secret(folder.administration / "client.key", private_key_to_pem(key))
    (folder.administration / "client.crt").write_bytes(certificate_to_pem(certificate))
    (folder.administration / "ca.crt").write_bytes(authority.certificate_pem)


def _write_authority(home: Home, certificate: Path, authority: CertificateAuthority) -> None:
    home.write_secret(certificate.parent / "priv_sk", authority.key_pem)
    certificate.write_bytes(authority.certificate_pem)


def _write_tls(home: Home, folder: Path, name: str, tls_authority: CertificateAuthority) -> None:
    key = new_private_key()
    certificate = tls_authority.issue(name, key.public_key(), purpose=Purpose.TLS, sans=(name, *LOOPBACK))
    home.write_secret(folder / "server.key", private_key_to_pem(key))
    (folder / "server.crt").write_bytes(certificate_to_pem(certificate))
    (folder / "ca.crt").write_bytes(tls_authority.certificate_pem)


def write_identity(home: Home, msp: Path, certificate_pem: bytes, private_key_pem: bytes, roots: Roots) -> None:
    """A member's MSP folder: the organization's verifying MSP with the member's certificate and key."""
    write_msp(msp, roots)
    home.write_secret(msp / "keystore" / "priv_sk", private_key_pem)
    (msp / "signcerts").mkdir(exist_ok=True)
    (msp / "signcerts" / "cert.pem").write_bytes(certificate_pem)


def write_msp(msp: Path, roots: Roots) -> None:
    """A verifying MSP whose members' roles are told by their certificates' organizational units (NodeOUs)."""
    for name, pem in (("cacerts/ca-cert.pem", roots.ca), ("tlscacerts/tlsca-cert.pem", roots.tls_ca)):
        (msp / name).parent.mkdir(parents=True, exist_ok=True)
        (msp / name).write_bytes(pem)
    (msp / "crls").mkdir(exist_ok=True)
    (msp / "config.yaml").write_text(yaml.safe_dump(_node_ous(), sort_keys=False), encoding="utf-8")


def _node_ous() -> dict[str, object]:
    units = {
        f"{unit.capitalize()}OUIdentifier": {
            "Certificate": "cacerts/ca-cert.pem",
            "OrganizationalUnitIdentifier": unit,
        }
        for unit in ("client", "peer", "admin", "orderer")
    }
    return {"NodeOUs": {"Enable": True, **units}}
