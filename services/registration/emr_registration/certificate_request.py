"""Certificate requests (PKCS#10) of people who keep their own key."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from emr_common.problems import Problem
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from hlf import certs, crypto

_OPAQUE = re.compile(r"[a-z]-[0-9a-f]{16}")


@dataclass(frozen=True, repr=False)
class CertificateRequest:
    """Signed by its own key, on P-256; its subject is an opaque enrolment id and nothing else."""

    pem: bytes
    enrolment_id: str


def checked_request(pem: str | None, role: Role) -> CertificateRequest | None:
    """Raises Problem CERTIFICATE_REQUEST_INVALID, which says what is wrong. None stays None.

    The enrolment id is the role's first letter, a hyphen and 16 hexadecimal digits, chosen by chance: it is public on
    the channel. Extensions are refused: what a certificate says beside its name is the hospital's to say.
    """
    if pem is None:
        return None
    try:
        request = certs.csr_from_pem(pem.encode())
        crypto.require_p256_public(request.public_key())
        is_signed = request.is_signature_valid and isinstance(request.signature_hash_algorithm, hashes.SHA256)
        names, extensions = list(request.subject), list(request.extensions)
    except (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
        raise _invalid("it is not a PEM request with a P-256 key") from None
    if not is_signed:
        raise _invalid("it is not signed by its own key, with SHA-256")
    if extensions:
        raise _invalid("it asks for extensions")
    if [name.oid for name in names] != [x509.NameOID.COMMON_NAME]:
        raise _invalid("its subject is not one common name")
    common_name = str(names[0].value)
    if not (_OPAQUE.fullmatch(common_name) and common_name[0] == role.value[0]):
        raise _invalid(f"its common name is not {role.value[0]}- and 16 hexadecimal digits")
    return CertificateRequest(pem.encode(), common_name)


def _invalid(why: str) -> Problem:
    return Problem(Code.CERTIFICATE_REQUEST_INVALID, why)
