"""Who calls: by enrolment secret (HTTP Basic), or by a token signed with an enrolment certificate's key.

A token is `base64(certificate) "." base64(signature)`, the signature over method, path, body and certificate (fabric-ca
`util.VerifyToken`).
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from hlf import certs, crypto

from hlf_devnet.ca import enrolment_secrets
from hlf_devnet.ca.errors import AuthenticationFailed, CaCode, CaRefused
from hlf_devnet.ca.store import Identity, Store

MAX_FAILED_LOGINS = 10


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """`path` with its query, as the client sent it."""

    method: str
    path: str
    body: bytes
    authorization: str


def by_secret(store: Store, authorization: str) -> Identity:
    """The identity that may enrol now; raises CaRefused."""
    identifier, secret = _basic(_required(authorization))
    identity = store.identity(identifier)
    if identity is None:
        raise AuthenticationFailed("unknown identity")
    if identity.failed_logins >= MAX_FAILED_LOGINS:
        raise AuthenticationFailed("too many wrong secrets")
    if not enrolment_secrets.matches(secret, identity.secret_salt, identity.secret_hash):
        store.count_failed_login(identifier)
        raise AuthenticationFailed("wrong secret")
    if identity.revoked:
        raise AuthenticationFailed("revoked identity")
    if identity.max_enrollments != -1 and identity.enrollments >= identity.max_enrollments:
        raise AuthenticationFailed("no enrolments left")
    return identity


def by_token(store: Store, authority: x509.Certificate, request: SignedRequest) -> tuple[Identity, x509.Certificate]:
    """The identity and the certificate that signed `request`; raises CaRefused."""
    certificate = _signer(request)
    now = datetime.now(UTC)
    if not certs.is_issued_by(certificate, authority):
        raise AuthenticationFailed("untrusted certificate")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise AuthenticationFailed("expired certificate")
    issued = store.certificate(certs.serial_of(certificate), certs.authority_key_id_of(certificate).lstrip("0"))
    identity = None if issued is None else store.identity(issued.id)
    if issued is None or identity is None:
        raise AuthenticationFailed("certificate not on record")
    if issued.revoked:
        raise AuthenticationFailed("revoked certificate")
    return identity, certificate


def _signer(request: SignedRequest) -> x509.Certificate:
    encoded_certificate, dot, encoded_signature = _required(request.authorization).partition(".")
    try:
        certificate = certs.certificate_from_pem(_decoded(encoded_certificate))
        signature = _decoded(encoded_signature)
        public_key = certs.public_key_of(certificate)
    except ValueError as error:
        raise AuthenticationFailed("malformed token") from error
    signed = f"{request.method}.{_encoded(request.path.encode())}.{_encoded(request.body)}.{encoded_certificate}"
    if not dot or not crypto.verify(public_key, signature, signed.encode()):
        raise AuthenticationFailed("the token's signature does not verify")
    return certificate


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        identifier, colon, secret = _decoded(encoded).decode().partition(":")
    except ValueError as error:
        raise AuthenticationFailed("malformed basic authorization") from error
    if scheme.lower() != "basic" or not colon:
        raise AuthenticationFailed("no user and secret")
    return identifier, secret


def _required(authorization: str) -> str:
    if not authorization:
        raise CaRefused(401, CaCode.NO_AUTHORIZATION_HEADER, "No authorization header")
    return authorization


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
