"""Blocks as the contract and a peer would make them, for tests of what reads blocks."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from emr_common.sealing import ContentKey, associated_data
from emr_model.clinical.canonical import canonical_bytes, parse_object
from emr_model.clinical.sealed_form import pack
from emr_model.ledger import keys
from emr_model.ledger.codec import JsonValue
from emr_model.ledger.keys import Key
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    Disclosure,
    Emr,
    End,
    EndReason,
    Event,
    Life,
    LifeState,
    Note,
    Organization,
    OwnerApproval,
    PatientApproval,
    SealingKey,
    SharedSnapshot,
)
from hlf.blocks import Block, BlockTransaction, CollectionWrite, PrivateWrite, Write, composite_key
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.identity import Identity

CHANNEL = "care"
NAMESPACE = "emr"
HOSPITALS = ("HospitalA", "HospitalB")


@dataclass
class Patient:
    """An EMR as its owner knows it."""

    emr_id: str
    patient_id: str
    owner: str
    key: ContentKey
    value: Emr


@dataclass
class LedgerWriter:
    """Writes transactions and cuts them into linked blocks; gives what ``reader``'s peer delivers."""

    reader: str = "HospitalA"
    start: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    blocks: list[Block] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _authorities: dict[str, CertificateAuthority] = field(default_factory=dict)
    _identities: dict[tuple[str, str], Identity] = field(default_factory=dict)

    def cut(self, *transactions: BlockTransaction) -> Block:
        """A block of these transactions."""
        number = len(self.blocks)
        previous = self.blocks[-1].header_hash if self.blocks else b""
        placed = tuple(replace(each, index=index) for index, each in enumerate(transactions))
        digest = hashlib.sha256(repr((number, previous, placed)).encode()).digest()
        block = Block(number, previous, digest, hashlib.sha256(digest).digest(), placed, None)
        self.blocks.append(block)
        return block

    def genesis(self) -> Block:
        """A block without facts, as block 0 is."""
        return self.cut(self.transaction([], endorsers=()))

    def now(self) -> datetime:
        return self.start + timedelta(seconds=next(self._numbers))

    def identity(self, msp_id: str, name: str) -> Identity:
        if (msp_id, name) not in self._identities:
            authority = self._authorities.setdefault(msp_id, CertificateAuthority.create("ca", msp_id))
            certificate = authority.issue(name, new_private_key().public_key())
            self._identities[msp_id, name] = Identity(msp_id, certificate_to_pem(certificate))
        return self._identities[msp_id, name]

    def transaction(
        self,
        writes: Iterable[tuple[Key, JsonValue | bytes]],
        *,
        private: Iterable[tuple[str, Key, bytes]] = (),
        creator: str = "HospitalA",
        endorsers: Iterable[str] = HOSPITALS,
        validation_code: int = 0,
        held: bool = True,
    ) -> BlockTransaction:
        """``private`` is (MSP id of the collection, key, bytes); the reader's peer gives its own if ``held``."""
        given = sorted((composite_key(*key), value) for key, value in writes)
        hidden = [(keys.implicit_collection(msp), composite_key(*key), value) for msp, key, value in private]
        own = keys.implicit_collection(self.reader)
        return BlockTransaction(
            index=0,
            transaction_id=hashlib.sha256(f"tx{next(self._numbers)}".encode()).hexdigest(),
            type=3,
            timestamp=self.now(),
            channel=CHANNEL,
            creator=self.identity(creator, "user"),
            validation_code=validation_code,
            endorsers=tuple(self.identity(msp, "peer") for msp in endorsers),
            chaincode=NAMESPACE,
            writes=tuple(Write(NAMESPACE, key, _bytes(value), False) for key, value in given),
            collection_writes=tuple(
                CollectionWrite(NAMESPACE, collection, _sha256(key.encode()), _sha256(value), False, False)
                for collection, key, value in hidden
            ),
            private_writes=tuple(
                PrivateWrite(NAMESPACE, collection, key, value, False, False)
                for collection, key, value in hidden
                if collection == own and held
            ),
        )

    def register(self, msp_id: str) -> BlockTransaction:
        value = Organization(
            f"Hospital {msp_id[-1]}", (SealingKey("1", "AA=="),), "admin", self.now(), Event.ORGANIZATION_REGISTERED
        )
        return self.transaction([(keys.organization(msp_id), value)], creator=msp_id)

    def create_emr(
        self, owner: str = "HospitalA", demographics: bytes | None = None
    ) -> tuple[Patient, BlockTransaction]:
        emr_id, patient_id = self._id("emr"), self._id("patient")
        key = ContentKey.generate()
        sealed, commitment = seal(key, owner, emr_id, "demographics", 1, demographics or PATIENT)
        now = self.now()
        value = Emr(
            owner=owner,
            patient_id=patient_id,
            patient_key="ab" * 32,
            next_patient_key=None,
            version=0,
            visits=0,
            demographics_revision=1,
            commitment=commitment,
            sha256=hashlib.sha256(sealed).hexdigest(),
            by="h-1",
            at=now,
            event=Event.EMR_CREATED,
        )
        patient = Patient(emr_id, patient_id, owner, key, value)
        transaction = self.transaction(
            [
                (keys.emr(emr_id), value),
                (keys.emr_of(owner, patient_id), b'{"emrId":"x"}'),
                (keys.life(emr_id), LifeState(Life.ACTIVE, "h-1", now, Event.EMR_CREATED)),
            ],
            private=[(owner, keys.demographics(emr_id, 1), sealed)],
            creator=owner,
        )
        return patient, transaction

    def add_note(
        self, patient: Patient, content: bytes, *, is_visit: bool = True, held: bool = True
    ) -> BlockTransaction:
        version = patient.value.version + 1
        sealed, commitment = seal(patient.key, patient.owner, patient.emr_id, "note", version, content)
        now = self.now()
        patient.value = replace(
            patient.value,
            version=version,
            visits=patient.value.visits + is_visit,
            by="d-1",
            at=now,
            event=Event.NOTE_ADDED,
        )
        note_id = self._id("note")
        note = Note(note_id, "d-1", now, commitment, hashlib.sha256(sealed).hexdigest())
        return self.transaction(
            [
                (keys.emr(patient.emr_id), patient.value),
                (keys.note(patient.emr_id, version), note),
                (keys.note_id(patient.emr_id, note_id), b'{"version":1}'),
            ],
            private=[(patient.owner, keys.note(patient.emr_id, version), sealed)],
            creator=patient.owner,
            held=held,
        )

    def request(self, patient: Patient, recipient: str, number: int = 1) -> tuple[Access, BlockTransaction]:
        now = self.now()
        access = Access(number, AccessRequest("d-2", Purpose.TREATMENT, now), None, None, None, Event.ACCESS_REQUESTED)
        writes: list[tuple[Key, JsonValue]] = [(keys.access(patient.emr_id, recipient), access)]
        if number == 1:
            end = End(0, None, None, now, Event.SHARING_OPENED)
            writes.append((keys.end(patient.emr_id, recipient), end))
        return access, self.transaction(writes, creator=recipient)

    def approve(
        self, patient: Patient, recipient: str, access: Access, version: int
    ) -> tuple[Access, list[BlockTransaction]]:
        """The owner's approval, then the patient's."""
        key, now = keys.access(patient.emr_id, recipient), self.now()
        approval = OwnerApproval("h-1", version, "key-1", now)
        by_owner = replace(access, owner_approval=approval, event=Event.OWNER_APPROVED)
        consent = PatientApproval("p-1", version, None, now)
        by_both = replace(by_owner, patient_approval=consent, event=Event.PATIENT_APPROVED)
        return by_both, [self.transaction([(key, step)]) for step in (by_owner, by_both)]

    def share(
        self, patient: Patient, recipient: str, access: Access, version: int, snapshot: bytes
    ) -> tuple[Access, BlockTransaction]:
        shared = replace(
            access,
            snapshot=SharedSnapshot(version, hashlib.sha256(snapshot).hexdigest(), "key-1", self.now()),
            event=Event.SNAPSHOT_SHARED,
        )
        private = [(recipient, keys.snapshot(patient.emr_id, access.number, version), snapshot)]
        return shared, self.transaction([(keys.access(patient.emr_id, recipient), shared)], private=private)

    def end(
        self, patient: Patient, recipient: str, number: int, endorsers: Iterable[str] | None = None
    ) -> BlockTransaction:
        value = End(number, "p-1", EndReason.REMOVED_BY_PATIENT, self.now(), Event.SHARING_ENDED_BY_PATIENT)
        return self.transaction(
            [(keys.end(patient.emr_id, recipient), value)],
            endorsers=(patient.owner,) if endorsers is None else endorsers,
        )

    def disclose(self, patient: Patient, recipient: str, number: int, version: int) -> BlockTransaction:
        value = Disclosure(recipient, number, version, "d-2", Purpose.TREATMENT, self.now())
        key = keys.disclosure(patient.emr_id, self._id("receipt"))
        return self.transaction([(key, value)], creator=recipient)

    def set_life(self, patient: Patient, life: Life, event: Event) -> BlockTransaction:
        value = LifeState(life, "p-1", self.now(), event)
        return self.transaction([(keys.life(patient.emr_id), value)], endorsers=(patient.owner,))

    def _id(self, kind: str) -> str:
        return hashlib.sha256(f"{kind}{next(self._numbers)}".encode()).hexdigest()[:32]


def seal(key: ContentKey, owner: str, emr_id: str, kind: str, version: int, canonical: bytes) -> tuple[bytes, str]:
    """Sealed bytes and the commitment to their content."""
    packed = pack(canonical)
    bound_to = associated_data(
        channel=CHANNEL,
        owner=owner,
        recipient=owner,
        kind=kind,  # type: ignore[arg-type]
        emr_id=emr_id,
        version=version,
    )
    return key.seal(packed.plaintext, bound_to), packed.commitment


def visit_note(start: str = "2025-11-30T23:30:00-05:00", *, code: str = "185349003", marker: str = "") -> bytes:
    """The canonical bytes of a note of one visit, with a condition and a medication."""
    text = f"""{{
      "resourceType": "Bundle", "type": "collection",
      "meta": {{"tag": [{{"system": "urn:careledger:note-kind", "code": "encounter"}}]}},
      "entry": [
        {{"fullUrl": "urn:uuid:1", "resource": {{"resourceType": "Encounter", "status": "finished",
          "class": {{"code": "AMB"}}, "period": {{"start": "{start}"}},
          "type": [{{"coding": [{{"system": "http://snomed.info/sct", "code": "{code}", "display": "Check-up"}}]}}]}}}},
        {{"fullUrl": "urn:uuid:2", "resource": {{"resourceType": "Condition",
          "code": {{"coding": [{{"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertension"}}],
                    "text": "Hypertension {marker}"}}}}}},
        {{"fullUrl": "urn:uuid:3", "resource": {{"resourceType": "MedicationRequest", "status": "active",
          "dosageInstruction": [{{"doseAndRate": [{{"doseQuantity": {{"value": 1.0}}}}]}}],
          "medicationCodeableConcept": {{"text": "Something by mouth"}}}}}}
      ]}}"""
    return canonical_bytes(parse_object(text.encode()))


PATIENT = canonical_bytes(
    {
        "resourceType": "Patient",
        "name": [
            {"use": "nickname", "given": ["Ada"]},
            {"use": "official", "family": "Lovelace", "given": ["Augusta", "Ada"]},
        ],
        "gender": "female",
        "birthDate": "1985-12-10",
    }
)


def _bytes(value: JsonValue | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.to_json()


def _sha256(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
