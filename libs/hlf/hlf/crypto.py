"""ECDSA on P-256 as Fabric wants it: SHA-256, ASN.1 DER, and only the smaller of the two possible `s` values.

Fabric's software provider (bccsp/sw, `ecdsa.go`) refuses a signature whose `s` is above half the curve's order, so that
nobody can turn one valid signature into a second one. OpenSSL makes no such promise: `sign` corrects what it returns.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_HALF_ORDER = P256_ORDER >> 1

_ECDSA_MESSAGE = ec.ECDSA(hashes.SHA256())
_ECDSA_DIGEST = ec.ECDSA(Prehashed(hashes.SHA256()))


def sign(private_key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """The DER signature over SHA-256 of `message`, low-S."""
    return to_low_s(private_key.sign(message, _ECDSA_MESSAGE))


def sign_digest(private_key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """The DER signature over a SHA-256 `digest` that the caller computed, low-S. ValueError unless it has 32 bytes."""
    return to_low_s(private_key.sign(digest, _ECDSA_DIGEST))


def verify(public_key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is one that Fabric would accept: well-formed DER, low-S, and made over `message`."""
    try:
        public_key.verify(signature, message, _ECDSA_MESSAGE)
    except (InvalidSignature, ValueError):
        return False
    return is_low_s(signature)


def to_low_s(signature: bytes) -> bytes:
    """The same signature with the smaller `s`. ValueError if it is not DER."""
    r, s = decode_dss_signature(signature)
    return signature if s <= P256_HALF_ORDER else encode_dss_signature(r, P256_ORDER - s)


def is_low_s(signature: bytes) -> bool:
    """ValueError if it is not DER."""
    return decode_dss_signature(signature)[1] <= P256_HALF_ORDER


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the concatenation of `parts`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def new_private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_key_to_pem(private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Unencrypted PKCS#8, the form that Fabric's key stores read."""
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_key_from_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """ValueError unless it is an unencrypted P-256 key (PKCS#8 or SEC1)."""
    return require_p256_private(serialization.load_pem_private_key(pem, password=None))


def public_key_to_der(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def require_p256_private(key: object) -> ec.EllipticCurvePrivateKey:
    """`key`, if it is one that Fabric identities may have; ValueError otherwise."""
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 private key")
    return key


def require_p256_public(key: object) -> ec.EllipticCurvePublicKey:
    """`key`, if it is one that Fabric identities may have; ValueError otherwise."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 public key")
    return key
