"""Certificates of staff and patients are renewed in the last third of their time, for the same keys.

So a patient's key stays the one that is bound to the EMR, and until it expires the earlier certificate counts beside
the renewed one. Callers who keep their own keys ask for it themselves, by a request that the earlier key has signed.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from cryptography import x509
from emr_common.own_keys import checked_signature
from emr_common.problems import Problem
from emr_common.wallet import Caller, Wallet
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from hlf.ca import CaClient
from hlf.errors import CaError
from hlf.identity import Identity
from prometheus_client import Counter, Gauge

from emr_registration.certificate_request import CertificateRequest

PAGE = 200
EVERY_SECONDS = 3600.0
PART_OF_LIFETIME = 1 / 3
UNAUTHORIZED = 401

RENEWED = Counter("emr_certificates_renewed_total", "Certificates that were renewed before they expired")
NOT_RENEWED = Gauge("emr_certificates_due", "Certificates that are due for renewal and could not be renewed")

log = structlog.get_logger(__name__)


class Renewal:
    def __init__(self, ca: CaClient, wallet: Wallet, msp_id: str) -> None:
        self._ca = ca
        self._msp_id = msp_id
        self._wallet = wallet

    async def renew_due(self, now: datetime | None = None) -> int:
        """Renews what is due; how many that were. May be cut off anywhere."""
        moment, renewed, failed, after = now or datetime.now(UTC), 0, 0, ""
        while page := await self._wallet.standing(after, PAGE):
            for enrolment_id, certificate_pem in page:
                if is_due(certificate_pem, moment):
                    try:
                        renewed += await self.renew(enrolment_id)
                    except CaError as error:
                        failed += 1
                        log.error("certificate_not_renewed", enrolment_id=enrolment_id, exc_info=error)
            after = page[-1][0]
        NOT_RENEWED.set(failed)
        return renewed

    async def renew(self, enrolment_id: str) -> bool:
        """False for an identity that is revoked, or whose key is elsewhere. Raises CaError: an expired certificate is
        not renewed by the CA, its holder is to be enrolled anew.
        """
        caller = await self._wallet.find_enrolled(enrolment_id)
        if caller is None or caller.held_signer is None:
            return False
        signer = caller.held_signer
        enrolled = await self._ca.reenroll(signer, private_key=signer.private_key)
        is_new = await self._wallet.replace_certificate(enrolment_id, caller.certificate_pem, enrolled.certificate_pem)
        RENEWED.inc(is_new)
        return is_new

    def to_sign(self, caller: Caller, request: CertificateRequest) -> bytes:
        """What the caller, who keeps the key, signs by the key that counts now. Raises Problem KEY_HELD_HERE or
        CERTIFICATE_REQUEST_INVALID.
        """
        if caller.held_signer is not None:
            raise Problem(Code.KEY_HELD_HERE)
        if request.enrolment_id != caller.enrolment_id:
            raise Problem(Code.CERTIFICATE_REQUEST_INVALID, "its common name is not the caller's enrolment id")
        if caller.role is Role.PATIENT and not _is_of_same_key(request.pem, caller.certificate_pem):
            raise Problem(Code.CERTIFICATE_REQUEST_INVALID, "another key of a patient is bound by admission")
        return self._ca.reenrollment_to_sign(caller.certificate_pem, request.pem)

    async def renew_signed(self, caller: Caller, request: CertificateRequest, signature: str) -> bytes:
        """The renewed certificate, by which the caller acts from the next request on.

        Raises Problem as ``to_sign``; SIGNATURE_INVALID; CONFLICT when the certificate was replaced meanwhile;
        CERTIFICATE_REQUEST_INVALID when the CA does not take the earlier one (any more); CA_UNAVAILABLE.
        """
        signed = self.to_sign(caller, request)
        low_s = checked_signature(Identity(self._msp_id, caller.certificate_pem), signature, signed)
        try:
            enrolled = await self._ca.reenroll_signed(caller.certificate_pem, request.pem, low_s)
        except CaError as error:
            log.error("certificate_not_renewed", enrolment_id=caller.enrolment_id, exc_info=error)
            if error.http_status == UNAUTHORIZED:
                raise Problem(Code.CERTIFICATE_REQUEST_INVALID, "the earlier certificate does not count") from error
            raise Problem(Code.CA_UNAVAILABLE) from error
        before, renewed = caller.certificate_pem, enrolled.certificate_pem
        if not await self._wallet.replace_certificate(caller.enrolment_id, before, renewed):
            raise Problem(Code.CONFLICT)
        RENEWED.inc()
        return renewed


def _is_of_same_key(csr_pem: bytes, certificate_pem: bytes) -> bool:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return x509.load_pem_x509_csr(csr_pem).public_key() == certificate.public_key()


def is_due(certificate_pem: bytes, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now > certificate.not_valid_after_utc - lifetime * PART_OF_LIFETIME
