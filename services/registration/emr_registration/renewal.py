"""Certificates of staff and patients are renewed in the last third of their time, for the same keys.

So a patient's key stays the one that is bound to the EMR, and until it expires the earlier certificate counts beside
the renewed one. Callers who keep their own keys renew by themselves.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from cryptography import x509
from emr_common.wallet import Wallet
from hlf.ca import CaClient
from hlf.errors import CaError
from prometheus_client import Counter, Gauge

PAGE = 200
EVERY_SECONDS = 3600.0
PART_OF_LIFETIME = 1 / 3

RENEWED = Counter("emr_certificates_renewed_total", "Certificates that were renewed before they expired")
NOT_RENEWED = Gauge("emr_certificates_due", "Certificates that are due for renewal and could not be renewed")

log = structlog.get_logger(__name__)


class Renewal:
    def __init__(self, ca: CaClient, wallet: Wallet) -> None:
        self._ca = ca
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


def is_due(certificate_pem: bytes, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now > certificate.not_valid_after_utc - lifetime * PART_OF_LIFETIME
