"""Who belongs to which organization: Fabric's X.509 MSPs with NodeOUs, read from their folders.

The rules are those of Fabric's `msp/mspimpl.go` and `mspimplvalidate.go`: one chain to a root, the chain as of the
certificate's first second, exactly one NodeOU, and the revocation lists of the issuing authority.
"""

import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from fabric_protos.msp import identities_pb2, msp_config_pb2
from google.protobuf.message import DecodeError
from hlf import certs
from hlf.channel_config import section, value
from hlf.identity import SigningIdentity

from hlf_devnet.identities import IdentityError, SignatureChecker, VerifiedIdentity, least_recently_used
from hlf_devnet.msp_folder import MspDefinition, MspError, NodeOus, Revocations

__all__ = ["IdentityError", "Msp", "MspError", "MspRegistry", "VerifiedIdentity"]

NO_FOLDERS: Final[Mapping[str, Path]] = {}
MALFORMED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises, some of it only when a part of a certificate is looked at."""

_log = logging.getLogger(__name__)


class MspRegistry:
    """The organizations of a channel. Results are remembered: an identity is parsed and its chain checked once."""

    def __init__(self, msps: Mapping[str, "Msp"], signatures: SignatureChecker | None = None) -> None:
        self._msps = dict(msps)
        self._remembered: dict[bytes, VerifiedIdentity | IdentityError] = {}
        self._signatures = signatures or SignatureChecker()

    @classmethod
    def from_dirs(cls, folders: Mapping[str, Path], signatures: SignatureChecker | None = None) -> Self:
        """`folders`: MSP id → the organization's verifying MSP folder (that of the orderer organization as well)."""
        return cls({msp_id: Msp.from_dir(msp_id, folder) for msp_id, folder in folders.items()}, signatures)

    @classmethod
    def from_config(
        cls, config: Any, folders: Mapping[str, Path] = NO_FOLDERS, signatures: SignatureChecker | None = None
    ) -> Self:
        """The organizations of a `common.Config`, those of the orderer as well. MspError where one cannot be used.

        `folders`: MSP folders by MSP id, whose `crls` count beside the configuration's own lists.
        """
        found: dict[str, Msp] = {}
        for part in ("Application", "Orderer"):
            for name, group in section(config, part).groups.items():
                msp = Msp.from_config(name, group, folders)
                known = found.setdefault(msp.msp_id, msp)
                if known is not msp and known.to_config() != msp.to_config():
                    raise MspError(f"attempted to define two different versions of MSP: {msp.msp_id}")
        return cls(found, signatures)

    @staticmethod
    def id_of(group: Any) -> str:
        """The MSP id in an organization's `common.ConfigGroup`."""
        config = msp_config_pb2.MSPConfig.FromString(value(group, "MSP"))
        return str(msp_config_pb2.FabricMSPConfig.FromString(config.config).name)

    def msp(self, msp_id: str) -> "Msp":
        """IdentityError when there is none."""
        try:
            return self._msps[msp_id]
        except KeyError:
            raise IdentityError(msp_id, "unknown organization") from None

    def validate(self, serialized_identity: bytes, *, at: datetime | None = None) -> VerifiedIdentity:
        """The member behind a `msp.SerializedIdentity`; raises IdentityError (unknown MSP, malformed, chain, revoked,
        NodeOU missing).

        With `at` an expired certificate is refused too. Peers and orderers do that when they are called (endorse,
        broadcast, deliver); a committer never does, or two peers could judge one block differently.
        """
        verdict = self._remembered.get(serialized_identity)
        if verdict is None:
            verdict = self._judge(serialized_identity)
            least_recently_used(self._remembered, serialized_identity, verdict)
        if isinstance(verdict, IdentityError):
            raise IdentityError(verdict.msp_id, verdict.reason)
        if at is not None and at > verdict.not_after:
            raise IdentityError(verdict.msp_id, "the certificate has expired")
        return verdict

    def verify(self, identity: VerifiedIdentity, message: bytes, signature: bytes) -> bool:
        """Whether `identity` signed `message`, low-S. Remembered, so several peers in one process pay once."""
        return self._signatures.verify(identity, message, signature)

    def sign(self, signer: SigningIdentity, message: bytes) -> bytes:
        """The signature of an identity of this process, one of the channel's; nobody here has to verify it again."""
        signature = signer.sign(message)
        with contextlib.suppress(IdentityError):
            self._signatures.remember(self.validate(signer.serialized), message, signature)
        return signature

    def reload_revocations(self) -> bool:
        """Reads `crls/*.pem` again where a file changed; whether any did. Cheap: call it before each block and call."""
        changed = [msp for msp in self._msps.values() if msp.reload_revocations()]
        if changed:
            self._remembered.clear()
        return bool(changed)

    def _judge(self, serialized_identity: bytes) -> VerifiedIdentity | IdentityError:
        try:
            message = identities_pb2.SerializedIdentity.FromString(serialized_identity)
        except DecodeError:
            return IdentityError("", "not a serialized identity")
        try:
            return self.msp(message.mspid).verified(serialized_identity, message.id_bytes)
        except IdentityError as error:
            return error
        except MALFORMED:
            return IdentityError(message.mspid, "the certificate is malformed")


class Msp:
    """One organization's roots of trust, NodeOU names and revocation lists."""

    def __init__(self, definition: MspDefinition) -> None:
        self.msp_id = definition.msp_id
        self._definition = definition
        self._ous = NodeOus(definition.node_ous, {ca: self._chain_of(ca) for ca in definition.authorities})
        self._inner = {parent for ca in definition.intermediates for parent in self._chain_of(ca)[1:]}
        self._revocations = Revocations(definition)

    @classmethod
    def from_dir(cls, msp_id: str, folder: Path) -> Self:
        """Reads Fabric's folder layout, `crls` and `config.yaml` (NodeOUs) included. MspError if it cannot be used."""
        return cls(MspDefinition.read(msp_id, folder))

    @classmethod
    def from_config(cls, name: str, group: Any, folders: Mapping[str, Path]) -> Self:
        """Of an organization's `common.ConfigGroup`. MspError if it cannot be used."""
        try:
            config = msp_config_pb2.MSPConfig.FromString(value(group, "MSP"))
            definition = MspDefinition.of_config(config, folders.get(MspRegistry.id_of(group)))
            if not definition.roots:
                raise ValueError("expected at least one CA certificate")
            return cls(definition)
        except (DecodeError, KeyError, *MALFORMED) as error:
            raise MspError(f"setting up the MSP of organization {name} failed: {error}") from error

    def to_config(self) -> Any:
        """The `msp.MSPConfig` that stands in the channel's configuration."""
        inner = self._definition.config(self._revocations.pem_files())
        return msp_config_pb2.MSPConfig(type=0, config=inner.SerializeToString(deterministic=True))

    def reload_revocations(self) -> bool:
        """Keeps what it knew when a file is unreadable, and says so in the log."""
        try:
            return self._revocations.reload()
        except (OSError, ValueError) as error:
            _log.error("revocation list of %s not read: %s", self.msp_id, error)
            return False

    def verified(self, serialized: bytes, certificate_pem: bytes) -> VerifiedIdentity:
        """IdentityError unless the certificate is a member's; one of MALFORMED when it cannot be read."""
        certificate = certs.certificate_from_pem(certificate_pem)
        chain = self._chain_of(certificate)
        if len(chain) < 2 or self._definition.is_authority(certificate):
            raise IdentityError(self.msp_id, "the certificate is not issued by the organization's authority")
        if chain[1] in self._inner:
            raise IdentityError(self.msp_id, "the issuer is not a leaf of the certification tree")
        if self._revocations.revoked(certificate, chain[1]):
            raise IdentityError(self.msp_id, "the certificate has been revoked")
        chain_identifier = NodeOus.identifier(chain[1:])
        units = certs.organizational_units_of(certificate)
        roles = self._roles(certificate, units, chain_identifier)
        return VerifiedIdentity(self.msp_id, certificate, roles, serialized, units, chain_identifier)

    def _roles(self, certificate: x509.Certificate, units: tuple[str, ...], chain_identifier: bytes) -> frozenset[str]:
        roles = self._ous.roles(self.msp_id, units, chain_identifier)
        return roles | {"admin"} if certificate in self._definition.admins else roles

    def _chain_of(self, certificate: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """From `certificate` to a root; only itself when nobody vouches for it. Roots are their own chain."""
        if certificate in self._definition.roots:
            return (certificate,)
        chains = [
            (certificate, *self._chain_of(authority))
            for authority in self._definition.authorities
            if authority != certificate and _issued(authority, certificate)
        ]
        complete = [chain for chain in chains if chain[-1] in self._definition.roots]
        if len(complete) > 1:
            raise IdentityError(self.msp_id, "more than one chain leads to a root")
        return complete[0] if complete else (certificate,)


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    if certificate.issuer != authority.subject:
        return False
    start = certificate.not_valid_before_utc
    valid_then = authority.not_valid_before_utc <= start <= authority.not_valid_after_utc
    return valid_then and certs.is_issued_by(certificate, authority)
