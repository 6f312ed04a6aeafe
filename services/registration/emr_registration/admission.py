"""A patient's registration: recognized, given ids and a key, enrolled, and their EMR created. All of it, or nothing.

The order makes a crash harmless. Ids are reserved under the HMAC of the patient's identifier (unique), then the EMR's
key is stored, then the identity, and only then does the transaction go out: whatever the ledger has, its keys are safe.
Until then nobody can see or use what is there, and the next attempt for the same patient takes it over with the same
ids:

- the transaction was refused: everything is taken back, and the certificate is revoked; - its outcome is unknown, or
the process died: all stays. The ledger says later whether the patient is registered. If not, the next attempt uses ids
and identity again, so that it cannot matter if the first transaction commits after all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from emr_common.calls import Call
from emr_common.idempotency import HANDLER_SECONDS, Answer, Attempt
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_common.sealing import ContentKey, associated_data
from emr_common.wallet import Caller
from emr_model.clinical.canonical import JsonObject
from emr_model.clinical.demographics import demographics_content
from emr_model.clinical.errors import DemographicsInvalid, IdentifierMissing
from emr_model.clinical.identifiers import patient_identifier, recognized_identifier
from emr_model.clinical.sealed_form import pack
from emr_model.ledger.answers import PatientRegistered
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role

from emr_registration.certificate_request import CertificateRequest
from emr_registration.enrolment import Enrolment, Person
from emr_registration.store import Reservation, Store

FIRST_REVISION = 1
PUBLIC_PART = (2, 0)
"""Arguments of ReadEmr after which nothing sealed is read: from the second version, no notes."""
ANOTHER_ATTEMPT_MAY_RUN = timedelta(seconds=HANDLER_SECONDS)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, repr=False)
class Recognition:
    """How the hospital recognizes a patient: its own HMAC key, and the systems of identifiers that it asks for, best
    first.
    """

    key: bytes
    systems: Sequence[str]

    def of(self, patient: JsonObject) -> bytes:
        """Raises Problem VALIDATION_FAILED for a Patient without an identifier of these systems."""
        try:
            return recognized_identifier(patient, self.systems).hmac(self.key)
        except IdentifierMissing as error:
            raise Problem(Code.VALIDATION_FAILED, str(error)) from None

    def of_identifier(self, system: str, value: str) -> bytes:
        """Raises Problem VALIDATION_FAILED for a blank one."""
        try:
            return patient_identifier(system, value).hmac(self.key)
        except IdentifierMissing as error:
            raise Problem(Code.VALIDATION_FAILED, str(error)) from None


@dataclass(frozen=True, repr=False)
class Sealed:
    """Demographics as they go to the ledger: sealed bytes, and what is public of them."""

    content: bytes
    commitment: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, repr=False)
class Newcomer:
    """Who is to be registered. ``request``: the patient keeps the key."""

    subject: str
    patient: JsonObject
    request: CertificateRequest | None


class Admission:
    def __init__(self, ledger: Ledger, store: Store, enrolment: Enrolment, recognition: Recognition) -> None:
        self._ledger = ledger
        self._store = store
        self._enrolment = enrolment
        self._recognition = recognition

    async def register(self, caller: Caller, newcomer: Newcomer, attempt: Attempt) -> Answer:
        """Raises Problem VALIDATION_FAILED, SUBJECT_ALREADY_ENROLLED, PATIENT_ALREADY_REGISTERED, CONFLICT (somebody
        registers the same patient now), CA_UNAVAILABLE, CERTIFICATE_REQUEST_INVALID, or what the ledger says.
        """
        async with self._admitting(newcomer, attempt) as call:
            attempt.plan(call.ids)
            committed = await self._ledger.perform(caller, call, attempt)
        return Answer(201, {**call.ids, **committed.ids()})

    async def prepare(self, newcomer: Newcomer, attempt: Attempt) -> Call:
        """CreateEmr with everything stored that it relies on. One that is never submitted leaves what a later attempt
        for the same patient takes over.
        """
        async with self._admitting(newcomer, attempt) as call:
            return call

    @asynccontextmanager
    async def _admitting(self, newcomer: Newcomer, attempt: Attempt) -> AsyncIterator[Call]:
        """The call that creates the EMR; everything is taken back when it is refused."""
        content = checked_demographics(newcomer.patient)
        identifier_hmac = self._recognition.of(newcomer.patient)
        reservation, is_new = await self._reserved(identifier_hmac, newcomer.subject, attempt)
        try:
            yield await self._call(newcomer, content, reservation)
        except Problem:
            if is_new:
                await self._take_back(reservation)
            raise

    async def _reserved(self, identifier_hmac: bytes, subject: str, attempt: Attempt) -> tuple[Reservation, bool]:
        """The patient's ids, and whether they are new: what an earlier attempt left must never be taken back by a later
        one.
        """
        found = await self._store.find(identifier_hmac)
        if found is None:
            await self._require_free(subject)
            ids = {"patientId": secrets.token_hex(16), "emrId": secrets.token_hex(16)}
            await attempt.remember(ids)
            found = await self._store.reserve(identifier_hmac, ids["patientId"], ids["emrId"])
            if found is None:
                raise Problem(Code.CONFLICT, "the same patient is being registered")
            return found, True
        return await self._taken_over(found, attempt), False

    async def _require_free(self, subject: str) -> None:
        if await self._enrolment.find(subject) is not None:
            raise Problem(Code.SUBJECT_ALREADY_ENROLLED)

    async def _taken_over(self, found: Reservation, attempt: Attempt) -> Reservation:
        if await self._is_created(found.emr_id):
            raise Problem(Code.PATIENT_ALREADY_REGISTERED)
        is_ours = attempt.earlier_ids.get("patientId") == found.patient_id
        taken = await self._store.take_over(found, timedelta(0) if is_ours else ANOTHER_ATTEMPT_MAY_RUN)
        if taken is None:
            raise Problem(Code.CONFLICT, "the same patient is being registered")
        await attempt.remember({"patientId": taken.patient_id, "emrId": taken.emr_id})
        log.info("registration_taken_over", emr_id=taken.emr_id)
        return taken

    async def _is_created(self, emr_id: str) -> bool:
        """Asked as the service itself: a clerk who keeps the key has signed nothing yet."""
        try:
            await self._ledger.evaluate(self._ledger.service, Function.READ_EMR, emr_id, *PUBLIC_PART)
        except Problem as problem:
            if problem.code in (Code.EMR_NOT_FOUND, Code.EMR_ERASED):
                return False
            raise
        return True

    async def _call(self, newcomer: Newcomer, content: bytes, reservation: Reservation) -> Call:
        key = await self._store.content_key(reservation.emr_id)
        identity = await self._identity(newcomer, reservation)
        sealed = seal_demographics(self._ledger, key, content, reservation.emr_id, FIRST_REVISION)
        patient_key = public_key_hash(identity.certificate_pem)
        return Call(
            Function.CREATE_EMR,
            (reservation.emr_id, reservation.patient_id, patient_key, sealed.commitment, sealed.sha256),
            {"demographics": sealed.content},
            {
                "patientId": reservation.patient_id,
                "emrId": reservation.emr_id,
                "enrolmentId": identity.enrolment_id,
            },
        )

    async def _identity(self, newcomer: Newcomer, reservation: Reservation) -> Caller:
        known = await self._enrolment.of_patient(reservation.patient_id)
        if known is None:
            person = Person(newcomer.subject, Role.PATIENT, reservation.patient_id, reservation.emr_id)
            return await self._enrolment.enrol(person, newcomer.request)
        if known.subject != newcomer.subject:
            raise Problem(Code.CONFLICT, "an unfinished registration of the patient names another subject")
        if newcomer.request is not None and known.enrolment_id != newcomer.request.enrolment_id:
            raise Problem(Code.CONFLICT, "an unfinished registration of the patient names another key")
        return known

    async def _take_back(self, reservation: Reservation) -> None:
        """After a refusal that is final. A failing CA leaves a certificate whose key is gone: nobody can use it."""
        for enrolment_id in await self._store.forget_patient(reservation.emr_id):
            try:
                await self._enrolment.revoke_certificates(enrolment_id)
            except Problem:
                log.warning("certificate_not_revoked", enrolment_id=enrolment_id)

    async def look_up(
        self, caller: Caller, patient_id: str | None, identifier: tuple[str, str] | None
    ) -> dict[str, str]:
        """Ids of a patient of this hospital. Raises Problem PATIENT_NOT_REGISTERED."""
        if identifier is not None:
            found = await self._store.find(self._recognition.of_identifier(*identifier))
            patient_id = None if found is None else found.patient_id
        if patient_id is None:
            raise Problem(Code.PATIENT_NOT_REGISTERED)
        answer = await self._ledger.evaluate(caller, Function.CHECK_IS_PATIENT_REGISTERED, patient_id)
        registered = PatientRegistered.from_json(answer)
        if not registered.registered or registered.emr_id is None:
            raise Problem(Code.PATIENT_NOT_REGISTERED)
        return {"patientId": patient_id, "emrId": registered.emr_id}


def checked_demographics(patient: JsonObject) -> bytes:
    """The canonical bytes of a Patient. Raises Problem VALIDATION_FAILED, naming FHIR's fields only."""
    try:
        return demographics_content(patient)
    except DemographicsInvalid as error:
        raise Problem(Code.VALIDATION_FAILED, str(error)) from None


def seal_demographics(ledger: Ledger, key: ContentKey, content: bytes, emr_id: str, revision: int) -> Sealed:
    packed = pack(content)
    place = associated_data(
        channel=ledger.channel,
        owner=ledger.msp_id,
        recipient=ledger.msp_id,
        kind="demographics",
        emr_id=emr_id,
        version=revision,
    )
    return Sealed(key.seal(packed.plaintext, place), packed.commitment)


def public_key_hash(certificate_pem: bytes) -> str:
    """What ``emr~`` calls patientKey: SHA-256 of the DER SubjectPublicKeyInfo, in hex."""
    public_key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
