"""The rules of one authority: who may register whom, what goes into a certificate, what is revoked."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from hlf import certs, crypto
from hlf.certs import CertificateAuthority, Purpose

from hlf_devnet.ca import enrolment_secrets
from hlf_devnet.ca.errors import CaCode, CaRefused, NotAuthorized
from hlf_devnet.ca.requests import Attribute, AttributeRequest, Enroll, Register, Revoke
from hlf_devnet.ca.store import Identity, Store, StoredAttribute

_RESERVED: Final = "hf."
_FIXED: Final = frozenset({"hf.EnrollmentID", "hf.Type", "hf.Affiliation"})
_REGISTRAR_ATTRIBUTES: Final = {
    "hf.Registrar.Roles": StoredAttribute("*", ecert=False),
    "hf.Registrar.DelegateRoles": StoredAttribute("*", ecert=False),
    "hf.Registrar.Attributes": StoredAttribute("*", ecert=False),
    "hf.Revoker": StoredAttribute("true", ecert=False),
    "hf.GenCRL": StoredAttribute("true", ecert=False),
}
_PROFILES: Final = {"": Purpose.SIGNING, "tls": Purpose.TLS}


class Authority:
    """Everything but HTTP. What changes is on disk when a method returns; methods raise CaRefused."""

    def __init__(self, name: str, signer: CertificateAuthority, store: Store, crl_file: Path) -> None:
        self.name = name
        self.signer = signer
        self.store = store
        self._crl_file = crl_file

    def bootstrap(self, registrar: str, secret: str) -> None:
        """Makes the registrar on the first start, and writes the revocation list anew if there is one to write."""
        if self.store.identity(registrar) is None:
            with self.store.transaction():
                self._add(registrar, secret, "client", _REGISTRAR_ATTRIBUTES, max_enrollments=-1)
        if self.store.revoked_certificates(datetime.now(UTC)):
            self._publish_crl()

    def register(self, caller: Identity, request: Register) -> str:
        """The new identity's secret."""
        kind = request.type or caller.type
        self._check_may_register(caller, kind, request.attrs or ())
        if request.affiliation not in ("", "."):
            raise NotAuthorized("this authority has no affiliations")
        if request.max_enrollments < -1:
            text = f"Max enrollment in registration request may not be less than -1, but was {request.max_enrollments}"
            raise CaRefused(400, CaCode.INVALID_MAX_ENROLLMENTS, text)
        attributes = {one.name: StoredAttribute(one.value, one.ecert) for one in request.attrs or ()}
        secret = request.secret or enrolment_secrets.new_secret()
        with self.store.transaction():
            if self.store.identity(request.id) is not None:
                text = f"Identity '{request.id}' is already registered"
                raise CaRefused(409, CaCode.DUPLICATE_IDENTITY, f"Registration of '{request.id}' failed: {text}")
            self._add(request.id, secret, kind, attributes, request.max_enrollments or -1)
        return secret

    def _add(
        self, identifier: str, secret: str, kind: str, attributes: Mapping[str, StoredAttribute], max_enrollments: int
    ) -> None:
        fixed = {"hf.EnrollmentID": identifier, "hf.Type": kind, "hf.Affiliation": ""}
        every = {**attributes, **{name: StoredAttribute(value, ecert=True) for name, value in fixed.items()}}
        self.store.add_identity(Identity(identifier, *enrolment_secrets.hashed(secret), kind, every, max_enrollments))

    def _check_may_register(self, caller: Identity, kind: str, attributes: Sequence[Attribute]) -> None:
        if not _lists(_value(caller, "hf.Registrar.Roles"), kind):
            raise NotAuthorized("the caller may not register identities of this type")
        for attribute in attributes:
            if attribute.name in _FIXED:
                raise NotAuthorized("a fixed attribute cannot be registered")
            if not _lists(_value(caller, "hf.Registrar.Attributes"), attribute.name):
                raise NotAuthorized("the caller may not register this attribute")
            if attribute.name.startswith(_RESERVED) and not _covers(_value(caller, attribute.name), attribute.value):
                raise NotAuthorized("the caller may not give away an attribute that it does not have")

    def enroll(self, caller: Identity, request: Enroll, *, by_secret: bool) -> bytes:
        """The PEM certificate. An enrolment by secret counts against the identity's limit."""
        purpose = _PROFILES.get(request.profile)
        if purpose is None:
            raise CaRefused(500, CaCode.UNKNOWN, f"Invalid profile: '{request.profile}'")
        certificate = self.signer.issue_for_csr(
            _csr(request.certificate_request, caller.id),
            common_name=caller.id,
            purpose=purpose,
            organizational_units=[caller.type],
            attributes=_wanted(caller, request.attr_reqs),
        )
        with self.store.transaction():
            if by_secret:
                self.store.count_enrollment(caller.id)
            serial, aki = certs.serial_of(certificate), certs.authority_key_id_of(certificate).lstrip("0")
            self.store.add_certificate(serial, aki, caller.id, certificate.not_valid_after_utc)
        return certs.certificate_to_pem(certificate)

    def revoke(self, caller: Identity, request: Revoke) -> list[tuple[str, str]]:
        """(serial, aki) of what is revoked now. The revocation list is written before this returns."""
        serial, aki = _hex(request.serial), _hex(request.aki)
        with self.store.transaction():
            if serial and aki:
                revoked = [self._revoke_certificate(caller, request, serial, aki)]
            elif request.id:
                revoked = self._revoke_identity(caller, request)
            else:
                text = "Either Name or Serial and AKI are required for a revoke request"
                raise CaRefused(400, CaCode.NOTHING_TO_REVOKE, text)
        self._publish_crl()
        return revoked

    def _revoke_certificate(self, caller: Identity, request: Revoke, serial: str, aki: str) -> tuple[str, str]:
        what = f"Certificate with serial {serial} and AKI {aki}"
        certificate = self.store.certificate(serial, aki)
        if certificate is None:
            raise CaRefused(404, CaCode.CERTIFICATE_NOT_FOUND, f"{what} was not found")
        _check_may_revoke(caller, certificate.id)
        if certificate.revoked:
            raise CaRefused(404, CaCode.ALREADY_REVOKED, f"{what} was already revoked")
        if request.id not in ("", certificate.id):
            raise CaRefused(400, CaCode.CERTIFICATE_OF_ANOTHER, f"{what} is not owned by {request.id}")
        self.store.revoke_certificate(serial, aki, request.reason, datetime.now(UTC))
        return serial, aki

    def _revoke_identity(self, caller: Identity, request: Revoke) -> list[tuple[str, str]]:
        _check_may_revoke(caller, request.id)
        if self.store.identity(request.id) is None:
            raise CaRefused(404, CaCode.IDENTITY_NOT_FOUND, f"Identity {request.id} was not found")
        return self.store.revoke_identity(request.id, request.reason, datetime.now(UTC))

    def crl(self, caller: Identity) -> bytes:
        if _value(caller, "hf.GenCRL") != "true":
            raise NotAuthorized("the caller may not have a revocation list made")
        return self.current_crl()

    def current_crl(self) -> bytes:
        return self.signer.crl(self.store.revoked_certificates(datetime.now(UTC)))

    def _publish_crl(self) -> None:
        """A reader finds the old list or the new one, whole."""
        self._crl_file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._crl_file.with_name(f".{self._crl_file.name}.new")
        unfinished.write_bytes(self.current_crl())
        unfinished.replace(self._crl_file)


def _check_may_revoke(caller: Identity, owner: str) -> None:
    """Everybody may revoke their own."""
    if caller.id != owner and _value(caller, "hf.Revoker") != "true":
        raise NotAuthorized("the caller may not revoke")


def _csr(pem: str, identifier: str) -> x509.CertificateSigningRequest:
    try:
        csr = certs.csr_from_pem(pem.encode())
        names = csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        crypto.require_p256_public(csr.public_key())
    except ValueError as error:
        raise CaRefused(400, CaCode.BAD_CSR, "CSR Decode failed") from error
    if not csr.is_signature_valid:
        raise CaRefused(400, CaCode.BAD_CSR, "the CSR is not signed by its own key")
    if [name.value for name in names] != [identifier]:
        text = "The CSR subject common name must equal the enrollment ID"
        raise CaRefused(403, CaCode.WRONG_COMMON_NAME, text)
    return csr


def _wanted(caller: Identity, requests: Sequence[AttributeRequest] | None) -> dict[str, str]:
    if requests is None:
        return {name: attribute.value for name, attribute in caller.attributes.items() if attribute.ecert}
    if missing := [one.name for one in requests if one.name not in caller.attributes and not one.optional]:
        text = f"The following required attributes are missing: [{' '.join(missing)}]"
        raise CaRefused(500, CaCode.UNKNOWN, f"Failed to find requested attributes: {text}")
    return {one.name: caller.attributes[one.name].value for one in requests if one.name in caller.attributes}


def _value(identity: Identity, attribute: str) -> str:
    held = identity.attributes.get(attribute)
    return "" if held is None else held.value


def _lists(patterns: str, name: str) -> bool:
    """Whether a comma-separated list of names, which may end in `*`, has `name`."""
    for pattern in (part.strip() for part in patterns.split(",")):
        if pattern and (pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))):
            return True
    return False


def _covers(held: str, given: str) -> bool:
    """Whether whoever holds a reserved attribute with value `held` may give it with value `given`."""
    return held == given or (bool(held) and all(_lists(held, part.strip()) for part in given.split(",")))


def _hex(text: str) -> str:
    return text.lower().lstrip("0").replace(":", "")
