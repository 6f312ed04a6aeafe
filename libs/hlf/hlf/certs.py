"""X.509 certificates as Fabric networks use them, and the small authority that issues them.

Fabric reads three things beyond the chain: the subject's organizational units (`client`, `peer`, `admin`, `orderer`:
the NodeOUs), the key usage, and attributes, which fabric-ca writes as JSON into extension 1.2.3.4.5.6.7.8.1
(fabric-ca `lib/attrmgr`). A CSR is PKCS#10.
"""

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from hlf.crypto import (
    new_private_key,
    private_key_from_pem,
    private_key_to_pem,
    public_key_to_der,
    require_p256_public,
)

__all__ = [
    "ATTRIBUTES_OID",
    "CertificateAuthority",
    "Purpose",
    "attributes_of",
    "authority_key_id_of",
    "certificate_from_pem",
    "certificate_to_pem",
    "common_name_of",
    "csr_from_pem",
    "is_issued_by",
    "new_csr",
    "new_private_key",
    "organizational_units_of",
    "private_key_from_pem",
    "private_key_to_pem",
    "public_key_of",
    "public_key_to_der",
    "serial_of",
    "subject_key_id_of",
]

ATTRIBUTES_OID = ObjectIdentifier("1.2.3.4.5.6.7.8.1")

CA_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=365)
CRL_LIFETIME = timedelta(days=30)
# Clocks of different machines differ a little: a certificate counts from shortly before it was made.
BACKDATE = timedelta(minutes=5)


class Purpose(Enum):
    """What a certificate's key may do."""

    SIGNING = "signing"
    """Sign transactions and blocks: an enrolment certificate."""
    TLS = "tls"
    """Serve and call over TLS."""


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A self-signed root with its key. The key stays in memory; `key_pem` is what the caller may store."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(
        cls, common_name: str, organization: str, *, lifetime: timedelta = CA_LIFETIME, now: datetime | None = None
    ) -> Self:
        key = new_private_key()
        start = _start(now)
        name = _name(common_name, organization, ())
        builder = (
            _builder(name, name, key.public_key(), start, start + BACKDATE + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes) -> Self:
        """ValueError if either is malformed or they do not belong together."""
        certificate, key = certificate_from_pem(cert_pem), private_key_from_pem(key_pem)
        if public_key_to_der(public_key_of(certificate)) != public_key_to_der(key.public_key()):
            raise ValueError("the authority's key does not belong to its certificate")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        return certificate_to_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        return private_key_to_pem(self.private_key)

    def issue(
        self,
        common_name: str,
        public_key: ec.EllipticCurvePublicKey,
        *,
        purpose: Purpose = Purpose.SIGNING,
        organizational_units: Sequence[str] = (),
        organization: str | None = None,
        sans: Iterable[str] = (),
        attributes: Mapping[str, str] | None = None,
        not_after: datetime | None = None,
        now: datetime | None = None,
    ) -> x509.Certificate:
        """A certificate for `public_key`.

        `organizational_units` become OUs of the subject in that order (a NodeOU such as "client" first).
        `sans` are host names and IP addresses, told apart by their form. `attributes` go into Fabric's extension.
        `not_after` defaults to a year from `now`. Neither end lies outside the authority's own validity: Fabric checks
        the chain as of the certificate's first second (`msp/mspimplvalidate.go`).
        """
        start = max(_start(now), self.certificate.not_valid_before_utc)
        end = min(not_after or start + BACKDATE + CERTIFICATE_LIFETIME, self.certificate.not_valid_after_utc)
        subject = _name(common_name, organization, organizational_units)
        builder = (
            _builder(subject, self.certificate.subject, public_key, start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._authority_key_id(), critical=False)
        )
        builder = _with_purpose(builder, purpose)
        if alternative_names := [_general_name(san) for san in sans]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
        if attributes:
            builder = builder.add_extension(_attributes_extension(attributes), critical=False)
        return builder.sign(self.private_key, hashes.SHA256())

    def issue_for_csr(
        self,
        csr: x509.CertificateSigningRequest,
        *,
        common_name: str,
        purpose: Purpose = Purpose.SIGNING,
        organizational_units: Sequence[str] = (),
        attributes: Mapping[str, str] | None = None,
        not_after: datetime | None = None,
    ) -> x509.Certificate:
        """A certificate for the key of `csr`, whose host names it takes over; the subject is the authority's decision.

        ValueError if the request is not signed by its own key, is not about a P-256 key, or names another
        common name (the rule of fabric-ca: the CSR's CN must be the enrolment id).
        """
        if not csr.is_signature_valid:
            raise ValueError("the certificate request is not signed by its own key")
        if _common_name(csr.subject) != common_name:
            raise ValueError("the certificate request names another common name")
        return self.issue(
            common_name,
            require_p256_public(csr.public_key()),
            purpose=purpose,
            organizational_units=organizational_units,
            sans=_sans(csr),
            attributes=attributes,
            not_after=not_after,
        )

    def crl(
        self, revoked: Iterable[tuple[int, datetime]], *, number: int | None = None, now: datetime | None = None
    ) -> bytes:
        """A PEM revocation list of (serial number, time of revocation), valid for 30 days. `number` defaults to
        the seconds since 1970."""
        at = now or datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(at - BACKDATE)
            .next_update(at + CRL_LIFETIME)
            .add_extension(self._authority_key_id(), critical=False)
            .add_extension(x509.CRLNumber(int(at.timestamp()) if number is None else number), critical=False)
        )
        for serial, revoked_at in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revoked_at).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _authority_key_id(self) -> x509.AuthorityKeyIdentifier:
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def new_csr(common_name: str, private_key: ec.EllipticCurvePrivateKey, sans: Iterable[str] = ()) -> bytes:
    """A PEM certificate request."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name, None, ()))
    if alternative_names := [_general_name(san) for san in sans]:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    return builder.sign(private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def csr_from_pem(pem: bytes) -> x509.CertificateSigningRequest:
    """ValueError if it is malformed."""
    return x509.load_pem_x509_csr(pem)


def certificate_from_pem(pem: bytes) -> x509.Certificate:
    """ValueError if it is malformed."""
    return x509.load_pem_x509_certificate(pem)


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """ValueError unless the certificate is about a P-256 key."""
    return require_p256_public(certificate.public_key())


def common_name_of(certificate: x509.Certificate) -> str:
    """The last common name of the subject, "" if it has none."""
    return _common_name(certificate.subject)


def organizational_units_of(certificate: x509.Certificate) -> tuple[str, ...]:
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return tuple(str(unit.value) for unit in units)


def attributes_of(certificate: x509.Certificate) -> dict[str, str]:
    """The attributes that fabric-ca wrote into the certificate, {} if it has none.

    ValueError if the extension is there and malformed: such a certificate must not pass for one without attributes.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(ATTRIBUTES_OID).value
    except x509.ExtensionNotFound:
        return {}
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise ValueError("the certificate's attributes are malformed")
    return _parse_attributes(extension.value)


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as fabric-ca writes it: lower-case hex without leading zeros."""
    return f"{certificate.serial_number:x}"


def subject_key_id_of(certificate: x509.Certificate) -> str:
    """Lower-case hex, "" if the certificate has none."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        return ""


def authority_key_id_of(certificate: x509.Certificate) -> str:
    """Lower-case hex, "" if the certificate has none."""
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    return identifier.hex() if identifier else ""


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether names and signature say so. Validity, constraints and revocation are not looked at."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _start(now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)).replace(microsecond=0) - BACKDATE


def _name(common_name: str, organization: str | None, units: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    parts += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _with_purpose(builder: x509.CertificateBuilder, purpose: Purpose) -> x509.CertificateBuilder:
    if purpose is Purpose.SIGNING:
        return builder.add_extension(_key_usage(digital_signature=True), critical=True)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    key_usage = _key_usage(digital_signature=True, key_encipherment=True)
    return builder.add_extension(key_usage, critical=True).add_extension(usage, critical=False)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _sans(csr: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _common_name(name: x509.Name) -> str:
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def _attributes_extension(attributes: Mapping[str, str]) -> x509.UnrecognizedExtension:
    text = json.dumps({"attrs": dict(attributes)}, separators=(",", ":"), ensure_ascii=False)
    return x509.UnrecognizedExtension(ATTRIBUTES_OID, text.encode())


def _parse_attributes(value: bytes) -> dict[str, str]:
    document = json.loads(value)
    attributes = document.get("attrs") if isinstance(document, dict) else None
    if not isinstance(attributes, dict) or not all(isinstance(item, str) for item in attributes.values()):
        raise ValueError("the certificate's attributes are malformed")
    return attributes
