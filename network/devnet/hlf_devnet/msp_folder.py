"""What defines an MSP: authorities, administrators, NodeOU names, revocation lists; from files or a configuration."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID
from fabric_protos.msp import msp_config_pb2
from hlf import certs

from hlf_devnet.identities import IdentityError

_ROLES = {
    "client": ("ClientOUIdentifier", "client_ou_identifier"),
    "peer": ("PeerOUIdentifier", "peer_ou_identifier"),
    "admin": ("AdminOUIdentifier", "admin_ou_identifier"),
    "orderer": ("OrdererOUIdentifier", "orderer_ou_identifier"),
}


class MspError(Exception):
    """An MSP folder that cannot be used; the text names folder and file."""


@dataclass(frozen=True, slots=True)
class NodeOu:
    """An OU that gives a role; with `authority` only where that authority issued the certificate."""

    unit: str
    authority: x509.Certificate | None


@dataclass(frozen=True, slots=True)
class MspDefinition:
    """`path`: a folder whose `crls` count as well, `revocation_lists` (PEM) those of a channel's configuration."""

    msp_id: str
    path: Path | None
    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    admins: tuple[x509.Certificate, ...]
    tls_roots: tuple[x509.Certificate, ...]
    tls_intermediates: tuple[x509.Certificate, ...]
    node_ous: Mapping[str, NodeOu]
    """Role → OU; empty when NodeOUs are off."""
    revocation_lists: tuple[bytes, ...] = ()

    @classmethod
    def read(cls, msp_id: str, path: Path) -> Self:
        roots = _certificates(path, "cacerts")
        if not roots:
            raise MspError(f"{path}: cacerts holds no certificate")
        return cls(
            msp_id=msp_id,
            path=path,
            roots=roots,
            intermediates=_certificates(path, "intermediatecerts"),
            admins=_certificates(path, "admincerts"),
            tls_roots=_certificates(path, "tlscacerts"),
            tls_intermediates=_certificates(path, "tlsintermediatecerts"),
            node_ous=_read_node_ous(path),
        )

    @classmethod
    def of_config(cls, config: Any, path: Path | None = None) -> Self:
        """From a `msp.MSPConfig`. ValueError where it holds something else than certificates."""
        fabric = msp_config_pb2.FabricMSPConfig.FromString(config.config)
        return cls(
            msp_id=fabric.name,
            path=path,
            roots=_parsed(fabric.root_certs),
            intermediates=_parsed(fabric.intermediate_certs),
            admins=_parsed(fabric.admins),
            tls_roots=_parsed(fabric.tls_root_certs),
            tls_intermediates=_parsed(fabric.tls_intermediate_certs),
            node_ous=_node_ous_of_config(fabric.fabric_node_ous),
            revocation_lists=tuple(fabric.revocation_list),
        )

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        return self.roots + self.intermediates

    def is_authority(self, certificate: x509.Certificate) -> bool:
        try:
            return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return False

    def config(self, revocation_lists: Sequence[bytes]) -> Any:
        """`msp.FabricMSPConfig`."""
        return msp_config_pb2.FabricMSPConfig(
            name=self.msp_id,
            root_certs=_pems(self.roots),
            intermediate_certs=_pems(self.intermediates),
            admins=_pems(self.admins),
            revocation_list=revocation_lists,
            tls_root_certs=_pems(self.tls_roots),
            tls_intermediate_certs=_pems(self.tls_intermediates),
            crypto_config=msp_config_pb2.FabricCryptoConfig(
                signature_hash_family="SHA2", identity_identifier_hash_function="SHA256"
            ),
            fabric_node_ous=self._node_ous_config(),
        )

    def _node_ous_config(self) -> Any:
        if not self.node_ous:
            return None
        identifiers = {
            _ROLES[role][1]: msp_config_pb2.FabricOUIdentifier(
                certificate=certs.certificate_to_pem(ou.authority) if ou.authority else b"",
                organizational_unit_identifier=ou.unit,
            )
            for role, ou in self.node_ous.items()
        }
        return msp_config_pb2.FabricNodeOUs(enable=True, **identifiers)


class NodeOus:
    """Tells the role of a member by the OUs of its certificate."""

    def __init__(
        self, ous: Mapping[str, NodeOu], chains: Mapping[x509.Certificate, Sequence[x509.Certificate]]
    ) -> None:
        self._roles = {
            ou.unit: (role, self.identifier(chains[ou.authority]) if ou.authority else b"") for role, ou in ous.items()
        }

    @staticmethod
    def identifier(chain: Sequence[x509.Certificate]) -> bytes:
        """The hash by which Fabric names a chain of authorities."""
        digest = hashlib.sha256()
        for authority in chain:
            digest.update(authority.public_bytes(serialization.Encoding.DER))
        return digest.digest()

    def roles(self, msp_id: str, units: Sequence[str], chain_identifier: bytes) -> frozenset[str]:
        """The one role that `units` give; nothing without NodeOUs. IdentityError when they give none or several."""
        if not self._roles:
            return frozenset()
        found = [self._roles[unit] for unit in units if unit in self._roles]
        if len(found) != 1:
            raise IdentityError(
                msp_id, "the certificate must carry exactly one of the OUs client, peer, admin, orderer"
            )
        role, issuer = found[0]
        if issuer and issuer != chain_identifier:
            raise IdentityError(msp_id, "the certificate's OU is not issued by the authority that may give it")
        return frozenset((role,))


class Revocations:
    """The lists of the configuration and those in `crls`. A certificate is revoked from the moment its serial number is
    in a list of its issuer; Fabric does not look at the date of revocation either."""

    def __init__(self, definition: MspDefinition) -> None:
        self._msp_folder = definition.path
        self._lists_folder = "" if definition.path is None else str(definition.path / "crls")
        self._fixed = definition.revocation_lists
        self._state: tuple[tuple[str, int, int, int], ...] = ()
        self._lists = tuple(x509.load_pem_x509_crl(pem) for pem in self._fixed)
        self.reload()

    def reload(self) -> bool:
        """Whether the files changed. OSError or ValueError leaves what was known."""
        state = self._files()
        if state == self._state:
            return False
        self._lists = tuple(x509.load_pem_x509_crl(pem) for pem in self.pem_files())
        self._state = state
        return True

    def pem_files(self) -> list[bytes]:
        found = [] if self._msp_folder is None else pem_files(self._msp_folder, "crls")
        return [*self._fixed, *(pem for pem in found if pem not in self._fixed)]

    def revoked(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        return any(
            crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            and _list_is_of(crl, issuer)
            for crl in self._lists
        )

    def _files(self) -> tuple[tuple[str, int, int, int], ...]:
        """What changes when a list does: called before every block and call, so it must be quick."""
        if not self._lists_folder:
            return ()
        try:
            with os.scandir(self._lists_folder) as entries:
                stats = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".pem")]
        except FileNotFoundError:
            return ()
        return tuple(sorted((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats))


def _certificates(path: Path, name: str) -> tuple[x509.Certificate, ...]:
    try:
        return _parsed(pem_files(path, name))
    except ValueError as error:
        raise MspError(f"{path / name}: not a certificate") from error


def pem_files(msp_folder: Path, name: str) -> list[bytes]:
    """The PEM files of a part of an MSP folder, by file name; none when the part is absent."""
    folder = msp_folder / name
    return [file.read_bytes() for file in sorted(folder.glob("*.pem"))] if folder.is_dir() else []


def _list_is_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key_id = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    subject_key_id = issuer.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value
    same = isinstance(subject_key_id, x509.SubjectKeyIdentifier) and subject_key_id.digest == key_id
    return same and crl.is_signature_valid(certs.public_key_of(issuer))


def _read_node_ous(path: Path) -> dict[str, NodeOu]:
    config = path / "config.yaml"
    if not config.is_file():
        return {}
    try:
        section = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("NodeOUs") or {}
        if not section.get("Enable"):
            return {}
        return {role: _node_ou(path, section[name]) for role, (name, _) in _ROLES.items() if section.get(name)}
    except (yaml.YAMLError, AttributeError, KeyError, OSError, ValueError) as error:
        raise MspError(f"{config}: NodeOUs cannot be read: {error}") from error


def _node_ou(path: Path, section: Mapping[str, str]) -> NodeOu:
    certificate = section.get("Certificate")
    authority = certs.certificate_from_pem((path / certificate).read_bytes()) if certificate else None
    return NodeOu(section["OrganizationalUnitIdentifier"], authority)


def _node_ous_of_config(config: Any) -> dict[str, NodeOu]:
    if not config.enable:
        return {}
    identifiers = {role: getattr(config, name) for role, (_, name) in _ROLES.items() if config.HasField(name)}
    return {
        role: NodeOu(
            identifier.organizational_unit_identifier,
            certs.certificate_from_pem(identifier.certificate) if identifier.certificate else None,
        )
        for role, identifier in identifiers.items()
    }


def _parsed(pems: Iterable[bytes]) -> tuple[x509.Certificate, ...]:
    return tuple(certs.certificate_from_pem(pem) for pem in pems)


def _pems(certificates: Sequence[x509.Certificate]) -> list[bytes]:
    return [certs.certificate_to_pem(certificate) for certificate in certificates]
