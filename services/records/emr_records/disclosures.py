"""Other hospitals' EMRs: a receipt on the ledger first, then the snapshot, opened and verified."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from emr_common.calls import Call
from emr_common.contents import mismatch
from emr_common.idempotency import Answer, Attempt
from emr_common.ledger import Ledger
from emr_common.owners_word import OwnersWord
from emr_common.problems import Problem
from emr_common.receipts import ReceiptProof, ReceiptRefused, check_own
from emr_common.sealing import SealingFailed, SealingPrivateKey, associated_data
from emr_common.wallet import Caller
from emr_model.clinical.canonical import parse_object
from emr_model.clinical.errors import ClinicalError, SnapshotInvalid
from emr_model.clinical.note_form import note_kind
from emr_model.clinical.snapshot import Snapshot, open_snapshot
from emr_model.ledger.answers import DisclosureList, DisclosureView, Receipt, SharedEmr
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role

from emr_records.schemas import DisclosureIn

PAGE_SIZE = 200


@dataclass(frozen=True, repr=False)
class OpenedSnapshot:
    """Every part of ``snapshot`` is what public state, in ``shared``, says of it."""

    shared: SharedEmr
    snapshot: Snapshot


@dataclass(frozen=True)
class Disclosures:
    """Everything raises Problem: the contract's codes, or CONTENT_MISMATCH and OWNER_DID_NOT_ENDORSE, which are
    alarms."""

    ledger: Ledger
    private_key: SealingPrivateKey
    word: OwnersWord

    async def disclose(self, caller: Caller, body: DisclosureIn, attempt: Attempt) -> Answer:
        """Leaves a receipt of the read on the ledger, before anything is shown."""
        committed = await self.ledger.perform(caller, disclosure(body), _ReceiptJournal(attempt))
        return Answer(201, {**receipt_ids(committed.result), **committed.ids()})

    async def read(self, caller: Caller, receipt: str) -> OpenedSnapshot:
        """The snapshot of a receipt of the caller's."""
        return await self.open(await self.ledger.evaluate(caller, Function.READ_SHARED_EMR, receipt))

    async def open(self, answer: bytes) -> OpenedSnapshot:
        """What ReadSharedEmr answered, opened."""
        shared = SharedEmr.from_json(answer)
        await self.word.require_sharing(shared.emr_id)
        try:
            return self._opened(shared)
        except (SealingFailed, ClinicalError, ValueError) as error:
            raise mismatch("shared", error) from error

    def _opened(self, shared: SharedEmr) -> OpenedSnapshot:
        sealed = base64.b64decode(shared.sealed, validate=True)
        if not hmac.compare_digest(hashlib.sha256(sealed).hexdigest(), shared.sha256):
            raise SnapshotInvalid("other bytes than the ledger says")
        snapshot = open_snapshot(self.private_key.open(sealed, self._bound_to(shared)))
        _verify(snapshot, shared)
        parse_object(snapshot.demographics.content)
        for note in snapshot.notes:
            note_kind(parse_object(note.content))
        return OpenedSnapshot(shared, snapshot)

    def _bound_to(self, shared: SharedEmr) -> bytes:
        return associated_data(
            channel=self.ledger.channel,
            owner=shared.owner_msp,
            recipient=self.ledger.msp_id,
            kind="snapshot",
            emr_id=shared.emr_id,
            version=shared.version,
        )

    async def own(self, caller: Caller) -> list[DisclosureView]:
        """Every read of the calling patient's EMR by another hospital, oldest first."""
        found: list[DisclosureView] = []
        bookmark = ""
        while True:
            answer = await self.ledger.evaluate(caller, Function.GET_OWN_DISCLOSURES, PAGE_SIZE, bookmark)
            page = DisclosureList.from_json(answer)
            found += page.disclosures
            bookmark = page.bookmark
            if not bookmark:
                return sorted(found, key=lambda view: view.disclosure.at)

    async def proof(self, caller: Caller, receipt: str) -> ReceiptProof:
        """What proves a read off-line: for staff of either hospital, and for the patient whose EMR was read."""
        if caller.role is Role.PATIENT and receipt not in {view.receipt for view in await self.own(caller)}:
            raise Problem(Code.TRANSACTION_NOT_FOUND)
        proof = await self.ledger.receipt_proof(receipt)
        try:
            proven = check_own(proof)
        except ReceiptRefused:  # a transaction that is no disclosure, or none of that EMR
            raise Problem(Code.TRANSACTION_NOT_FOUND) from None
        if self.ledger.msp_id not in (proven.owner_msp, proven.disclosure.recipient_msp):
            raise Problem(Code.TRANSACTION_NOT_FOUND)
        return proof


@dataclass(frozen=True)
class _ReceiptJournal:
    """Keeps the receipt with its transaction, so that a repetition answers the same after a crash."""

    attempt: Attempt

    async def submitting(self, transaction_id: str, result: bytes) -> None:
        self.attempt.plan(receipt_ids(result))
        await self.attempt.submitting(transaction_id, result)


def disclosure(body: DisclosureIn) -> Call:
    return Call(Function.GET_SHARED_EMR, (body.owner_msp, body.patient_id, body.purpose.value))


def _verify(snapshot: Snapshot, shared: SharedEmr) -> None:
    """Raises SnapshotInvalid, or CommitmentMismatch for content that the owner never put on the ledger."""
    known = {one.revision: one.commitment for one in shared.demographics}
    if snapshot.version != shared.version or len(shared.notes) != shared.version:
        raise SnapshotInvalid("another number of notes than the version says")
    if snapshot.demographics.revision not in known:
        raise SnapshotInvalid("demographics of a revision that there never was")
    snapshot.demographics.verify(known[snapshot.demographics.revision])
    for note, public in zip(snapshot.notes, shared.notes, strict=True):
        if note.note_id != public.note_id:
            raise SnapshotInvalid("a note under another id than the ledger's")
        note.verify(public.commitment)


def receipt_ids(result: bytes) -> dict[str, Any]:
    return Receipt.from_json(result).to_wire()
