"""People's Fabric identities: enrolled at the hospital's CA under opaque ids, kept in the wallet, revoked at both."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from cryptography import x509
from emr_common.problems import Problem
from emr_common.wallet import AlreadyEnrolled, Caller, Wallet
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from hlf.ca import CaClient, Enrollment
from hlf.errors import CaError
from hlf.identity import SigningIdentity
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_registration.certificate_request import CertificateRequest

ROLE_ATTRIBUTE = "emr.role"
PATIENT_ATTRIBUTE = "emr.patientId"
PAGE = 200
FINISH_EVERY_SECONDS = 120.0
_IS_REGISTERED = "is already registered"  # fabric-ca has no code of its own for it

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Person:
    """Who is enrolled. Patient and EMR are given for patients only."""

    subject: str
    role: Role
    patient_id: str | None = None
    emr_id: str | None = None

    def attributes(self) -> dict[str, str]:
        attributes = {ROLE_ATTRIBUTE: self.role.value}
        return attributes if self.patient_id is None else {**attributes, PATIENT_ATTRIBUTE: self.patient_id}


class Enrolment:
    """A certificate whose key was lost with a crash, between the CA's answer and the wallet, is of no use to anybody:
    the next attempt takes a new enrolment id.
    """

    def __init__(
        self, ca: CaClient, registrar: SigningIdentity, engine: AsyncEngine, wallet: Wallet, issuer: str
    ) -> None:
        self._ca = ca
        self._registrar = registrar
        self._engine = engine
        self._wallet = wallet
        self._issuer = issuer

    async def find(self, subject: str) -> Caller | None:
        return await self._wallet.find(self._issuer, subject)

    async def with_id(self, enrolment_id: str) -> Caller | None:
        """Standing or revoked."""
        return await self._wallet.find_enrolled(enrolment_id)

    async def of_patient(self, patient_id: str) -> Caller | None:
        return await self._wallet.find_patient(patient_id)

    async def of_emr(self, emr_id: str) -> Caller | None:
        return await self._wallet.find_emr(emr_id)

    async def enrol(self, person: Person, request: CertificateRequest | None = None) -> Caller:
        """Registers and enrols at the CA and stores the identity, in that order. With a request the key stays where it
        was made.

        Raises Problem SUBJECT_ALREADY_ENROLLED (also for a subject whose identity was revoked), CA_UNAVAILABLE, or
        CERTIFICATE_REQUEST_INVALID for a common name that was used before.
        """
        enrolment_id, enrolled = await self.certify(person, request)
        try:
            await self._store(person, enrolment_id, enrolled)
        except AlreadyEnrolled:
            await self._revoke_at_ca(enrolment_id)
            raise Problem(Code.SUBJECT_ALREADY_ENROLLED) from None
        log.info("enrolled", enrolment_id=enrolment_id, role=person.role.value)
        found = await self._wallet.find_enrolled(enrolment_id)
        assert found is not None
        return found

    async def certify(self, person: Person, request: CertificateRequest | None) -> tuple[str, Enrollment]:
        """A certificate under a new enrolment id, stored nowhere yet. Raises Problem as ``enrol`` does."""
        enrolment_id = _new_enrolment_id(person.role) if request is None else request.enrolment_id
        if request is not None and await self._wallet.find_enrolled(enrolment_id) is not None:
            raise _name_used()
        async with _ca_problems():
            secret = await self._ca.register(
                self._registrar, enrolment_id, attributes=person.attributes(), max_enrollments=1
            )
            csr_pem = None if request is None else request.pem
            return enrolment_id, await self._ca.enroll(enrolment_id, secret, csr_pem=csr_pem)

    async def _store(self, person: Person, enrolment_id: str, enrolled: Enrollment) -> None:
        async with self._engine.begin() as connection:
            await self._wallet.add(
                connection,
                issuer=self._issuer,
                subject=person.subject,
                enrolment_id=enrolment_id,
                role=person.role,
                certificate_pem=enrolled.certificate_pem,
                private_key=enrolled.private_key,
                patient_id=person.patient_id,
                emr_id=person.emr_id,
            )

    async def revoke(self, enrolment_id: str) -> None:
        """Ends an identity: here at once, then at the CA, whose revocation list the peers follow. Repeatable.

        Raises Problem CA_UNAVAILABLE, the identity then being ended here already.
        """
        async with self._engine.begin() as connection:
            await self._wallet.revoke(connection, enrolment_id)
        await self._revoke_at_ca(enrolment_id)
        log.info("revoked", enrolment_id=enrolment_id)

    async def finish_revocations(self, now: datetime | None = None) -> int:
        """Revokes at the CA whoever ended here while it was away; how many that were. Raises Problem CA_UNAVAILABLE."""
        async with _ca_problems():
            listed = {one.serial_number for one in x509.load_pem_x509_crl(await self._ca.gencrl(self._registrar))}
        moment, finished, after = now or datetime.now(UTC), 0, ""
        while page := await self._wallet.ended(after, PAGE):
            for enrolment_id, certificate_pem in page:
                certificate = x509.load_pem_x509_certificate(certificate_pem)
                if certificate.serial_number not in listed and certificate.not_valid_after_utc > moment:
                    await self._revoke_at_ca(enrolment_id)
                    finished += 1
            after = page[-1][0]
        return finished

    async def revoke_certificates(self, enrolment_id: str) -> None:
        """At the CA only, for identities that the wallet no longer has. Repeatable. Raises Problem CA_UNAVAILABLE."""
        await self._revoke_at_ca(enrolment_id)

    async def _revoke_at_ca(self, enrolment_id: str) -> None:
        async with _ca_problems():
            await self._ca.revoke(self._registrar, id=enrolment_id, reason="cessationofoperation", with_crl=True)


@asynccontextmanager
async def _ca_problems() -> AsyncIterator[None]:
    try:
        yield
    except CaError as error:
        if _IS_REGISTERED in str(error):
            raise _name_used() from error
        log.error("ca_call_failed", http_status=error.http_status, ca_code=error.ca_code, exc_info=error)
        raise Problem(Code.CA_UNAVAILABLE) from error


def _new_enrolment_id(role: Role) -> str:
    return f"{role.value[0]}-{secrets.token_hex(8)}"


def _name_used() -> Problem:
    return Problem(Code.CERTIFICATE_REQUEST_INVALID, "its common name was used before")
