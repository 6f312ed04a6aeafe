"""What is known of a member after its organization has vouched for it, and which signatures it made."""

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from hlf import certs, crypto

REMEMBERED = 4096
_PREHASHED = ec.ECDSA(Prehashed(hashes.SHA256()))

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class IdentityError(Exception):
    """An identity that no organization of the channel vouches for; `msp_id` is what it claims, or empty."""

    def __init__(self, msp_id: str, reason: str) -> None:
        super().__init__(f"MSP {msp_id or '?'}: {reason}")
        self.msp_id = msp_id
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedIdentity:
    """A member that an organization vouches for.

    `roles` holds one of client, peer, admin, orderer (and admin for whom the MSP names as one), or nothing when the
    organization does not use NodeOUs. `chain_identifier` is the hash of the issuing chain that OU principals compare.
    """

    msp_id: str
    certificate: x509.Certificate
    roles: frozenset[str]
    serialized: bytes
    organizational_units: tuple[str, ...] = ()
    chain_identifier: bytes = b""
    not_after: datetime = field(init=False)
    fingerprint: bytes = field(init=False)
    """The same for two encodings of one certificate: it leaves the authority's signature out."""
    public_key: ec.EllipticCurvePublicKey = field(init=False)

    def __post_init__(self) -> None:
        fingerprint = hashlib.sha256(self.msp_id.encode() + b"\0" + self.certificate.tbs_certificate_bytes).digest()
        object.__setattr__(self, "fingerprint", fingerprint)
        object.__setattr__(self, "not_after", self.certificate.not_valid_after_utc)
        object.__setattr__(self, "public_key", certs.public_key_of(self.certificate))


class SignatureChecker:
    """Remembers the newest verdicts: a client's signature is checked by each peer, the orderer and the committer."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[bytes, bytes, bytes], bool] = {}

    def verify(self, identity: VerifiedIdentity, message: bytes, signature: bytes) -> bool:
        digest = hashlib.sha256(message).digest()
        key = (identity.fingerprint, digest, signature)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = _verify(identity.public_key, digest, signature)
            least_recently_used(self._verdicts, key, verdict)
        return verdict

    def remember(self, identity: VerifiedIdentity, message: bytes, signature: bytes) -> None:
        """One that this process has just made with the identity's key."""
        least_recently_used(self._verdicts, (identity.fingerprint, hashlib.sha256(message).digest(), signature), True)


def least_recently_used(remembered: dict[Key, Value], key: Key, value: Value) -> None:
    """Remembers `value` and drops the oldest when there are too many."""
    if len(remembered) >= REMEMBERED:
        remembered.pop(next(iter(remembered)), None)
    remembered[key] = value


def _verify(public_key: ec.EllipticCurvePublicKey, digest: bytes, signature: bytes) -> bool:
    try:
        public_key.verify(signature, digest, _PREHASHED)
        return crypto.is_low_s(signature)
    except (InvalidSignature, ValueError):
        return False
