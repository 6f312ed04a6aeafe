"""The verifying side of an MSP: who belongs to an organization, and in which role.

Follows Fabric's own rules (`msp/mspimpl*.go`): a member's certificate chains to a root of the organization and is on
none of its revocation lists; roles are NodeOUs. Expiry is not judged: Fabric checks chains as of the certificate's own
beginning, so that what was signed while it was valid stays so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509
from fabric_protos.msp import msp_config_pb2, msp_principal_pb2

from hlf import certs
from hlf.identity import Identity

MAX_CHAIN_LENGTH = 8


@dataclass(frozen=True)
class Msp:
    """An organization as a channel's configuration describes it."""

    msp_id: str
    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    admins: tuple[bytes, ...] = ()
    revoked: frozenset[tuple[bytes, int]] = frozenset()
    """Issuer (DER name) and serial number."""
    node_ous: dict[int, str] = field(default_factory=dict)
    """Organizational unit of each role (`MSPRole.MSPRoleType`); empty when the organization does not use NodeOUs."""

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Reads a `msp.MSPConfig`. ValueError if it holds malformed certificates."""
        fabric = msp_config_pb2.FabricMSPConfig.FromString(config.config)
        return cls(
            msp_id=fabric.name,
            roots=_certificates(fabric.root_certs),
            intermediates=_certificates(fabric.intermediate_certs),
            admins=tuple(fabric.admins),
            revoked=frozenset(_revocations(fabric.revocation_list)),
            node_ous=_node_ous(fabric.fabric_node_ous),
        )

    def has_member(self, identity: Identity) -> bool:
        try:
            certificate = identity.certificate
        except ValueError:
            return False
        is_revoked = (certificate.issuer.public_bytes(), certificate.serial_number) in self.revoked
        return identity.msp_id == self.msp_id and not is_revoked and self._is_chained(certificate, MAX_CHAIN_LENGTH)

    def has_role(self, identity: Identity, role: int) -> bool:
        """`role` is a `MSPRole.MSPRoleType`."""
        if not self.has_member(identity):
            return False
        if role == msp_principal_pb2.MSPRole.MEMBER:
            return True
        if role == msp_principal_pb2.MSPRole.ADMIN and identity.certificate_pem in self.admins:
            return True
        unit = self.node_ous.get(role)
        return unit is not None and unit in certs.organizational_units_of(identity.certificate)

    def _is_chained(self, certificate: x509.Certificate, most: int) -> bool:
        if any(_issued(root, certificate) for root in self.roots):
            return True
        return most > 0 and any(
            _issued(authority, certificate) and self._is_chained(authority, most - 1)
            for authority in self.intermediates
        )


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    return _is_authority(issuer) and issuer != certificate and certs.is_issued_by(certificate, issuer)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _certificates(pems: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    return tuple(certs.certificate_from_pem(pem) for pem in pems)


def _revocations(lists: Sequence[bytes]) -> list[tuple[bytes, int]]:
    parsed = [x509.load_pem_x509_crl(pem) for pem in lists]
    return [(crl.issuer.public_bytes(), entry.serial_number) for crl in parsed for entry in crl]


def _node_ous(units: Any) -> dict[int, str]:
    if not units.enable:
        return {}
    roles = msp_principal_pb2.MSPRole
    named = {
        roles.CLIENT: units.client_ou_identifier,
        roles.PEER: units.peer_ou_identifier,
        roles.ADMIN: units.admin_ou_identifier,
        roles.ORDERER: units.orderer_ou_identifier,
    }
    return {
        role: unit.organizational_unit_identifier for role, unit in named.items() if unit.organizational_unit_identifier
    }
