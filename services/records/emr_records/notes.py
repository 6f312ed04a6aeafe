"""Adding notes: one writer an EMR at a time, a new proposal after every lost race, a repeated note recognized."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emr_common.calls import Call
from emr_common.ledger import Committed, Journal
from emr_common.locks import AdvisoryLocks
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.clinical.canonical import JsonObject, parse_object
from emr_model.clinical.errors import BundleMalformed, IdentifierMissing, NoteInvalid
from emr_model.clinical.identifiers import recognized_identifier
from emr_model.clinical.note_form import NoteKind
from emr_model.clinical.note_id import background_note_id, encounter_note_id, typed_note_id
from emr_model.clinical.notes import NoteContent
from emr_model.clinical.sealed_form import pack
from emr_model.clinical.typed import AmendmentRefused, bundle_amendment, text_amendment, text_note
from emr_model.ledger.answers import EmrView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from hlf.identity import Signer

from emr_records.bodies import invalid
from emr_records.content import OpenedHeader, OwnContent
from emr_records.schemas import AmendmentIn, TextNoteIn

PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
RACES = frozenset({Code.CONFLICT, Code.VERSION_CONFLICT})
"""Another writer came first: a new proposal, at the version that there is now, may go through."""

EMRS_KNOWN = 4096


class NoteJournal(Journal, Protocol):
    """An ``Attempt``, or whoever else keeps what a note will be answered with."""

    def plan(self, ids: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class NoteAdded:
    """``committed`` is None for a note that the EMR had already, with the same content."""

    note_id: str
    version: int
    committed: Committed | None


@dataclass(frozen=True, repr=False)
class NoteIds:
    """Makes note ids under the hospital's key; see ``emr_model.clinical.note_id``."""

    key: bytes

    def of(self, patient_id: str, note: NoteContent) -> str:
        """Of a note from a bundle."""
        if note.kind is NoteKind.ENCOUNTER:
            return encounter_note_id(self.key, patient_id, note.note_key)
        return background_note_id(self.key, patient_id, note.content)

    def typed(self, patient_id: str, caller: Caller, idempotency_key: str) -> str:
        return typed_note_id(self.key, patient_id, caller.enrolment_id, idempotency_key)


@dataclass
class KnownEmr:
    """An EMR as it was last seen: its patient, who never changes, and its version, which is a guess."""

    patient_id: str
    version: int


class KnownEmrs:
    """Saves a question to the ledger before each note: the contract judges every proposal by what is true.

    Where a majority endorses, what the contract finds there may be others' doing: then every note looks first.
    """

    def __init__(self, content: OwnContent) -> None:
        self._content = content
        self._known: OrderedDict[str, KnownEmr] = OrderedDict()

    async def get(self, caller: Caller | Signer, emr_id: str) -> KnownEmr:
        known = self._known.get(emr_id)
        if known is None or not await self._content.ledger.is_endorsed_by_all():
            return await self.look_again(caller, emr_id)
        return known

    async def look_again(self, caller: Caller | Signer, emr_id: str) -> KnownEmr:
        emr = (await self._content.version(caller, emr_id)).emr
        known = self._known[emr_id] = KnownEmr(emr.patient_id, emr.version)
        if len(self._known) > EMRS_KNOWN:
            self._known.popitem(last=False)
        return known


@dataclass(frozen=True)
class NoteWriter:
    """Everything raises Problem, or OutcomePending when a transaction's outcome did not come in time."""

    content: OwnContent
    locks: AdvisoryLocks
    note_ids: NoteIds
    known_emrs: KnownEmrs

    async def add(
        self,
        caller: Caller,
        emr_id: str,
        note_id: str,
        note: NoteContent,
        *,
        expected_version: int | None = None,
        attempt: NoteJournal | None = None,
    ) -> NoteAdded:
        """Adds a note at the current version, or at ``expected_version`` only (VERSION_CONFLICT otherwise). Where no
        version is expected, and others keep coming first, that is a CONFLICT.

        A note id that the EMR knows answers with its version when the content is the same, NOTE_ID_REUSED when it is
        not.
        """
        async with self.locks.hold(emr_id):
            emr = await self.known_emrs.get(caller, emr_id)
            for pause_seconds in (*PAUSES_SECONDS, None):
                version = emr.version if expected_version is None else expected_version
                try:
                    added = await self._propose(caller, emr_id, note_id, note, version, attempt)
                except Problem as problem:
                    if problem.code is Code.NOTE_ID_EXISTS:
                        return await self._repeated(caller, emr_id, note_id, note, problem)
                    if problem.code not in RACES:
                        raise
                    if pause_seconds is None:
                        if expected_version is None:
                            raise Problem(Code.CONFLICT, transaction_id=problem.transaction_id) from problem
                        raise
                    emr = await self.known_emrs.look_again(caller, emr_id)
                    if problem.code is Code.VERSION_CONFLICT and expected_version not in (None, emr.version):
                        raise
                else:
                    emr.version = added.version
                    return added
                await asyncio.sleep(pause_seconds)
        raise AssertionError("the last pause is None")

    async def _propose(
        self, caller: Caller, emr_id: str, note_id: str, note: NoteContent, version: int, attempt: NoteJournal | None
    ) -> NoteAdded:
        call = await self.call(emr_id, note_id, note, version)
        if attempt is not None:
            attempt.plan(call.ids)
        committed = await self.content.ledger.perform(caller, call, attempt)
        return NoteAdded(note_id, version + 1, committed)

    async def call(self, emr_id: str, note_id: str, note: NoteContent, version: int) -> Call:
        """The note, sealed for the version after ``version``."""
        packed = pack(note.content)
        key = await self.content.key(emr_id)
        sealed = key.seal(packed.plaintext, self.content.place(emr_id).bound_to("note", version + 1))
        is_visit, sha256 = "true" if note.is_visit else "false", hashlib.sha256(sealed).hexdigest()
        return Call(
            Function.ADD_EMR_NOTE,
            (emr_id, version, note_id, is_visit, packed.commitment, sha256),
            {"note": sealed},
            {"emrId": emr_id, "noteId": note_id, "version": version + 1},
        )

    async def _repeated(
        self, caller: Caller, emr_id: str, note_id: str, note: NoteContent, problem: Problem
    ) -> NoteAdded:
        version = problem.members["version"]
        known = await self.content.note(caller, emr_id, version)
        if known.content.canonical != note.content:
            raise Problem(Code.NOTE_ID_REUSED, members={"version": version, "noteId": note_id})
        return NoteAdded(note_id, version, None)


def typed_content(note_id: str, body: TextNoteIn | AmendmentIn) -> NoteContent:
    """Raises Problem VALIDATION_FAILED or BUNDLE_INVALID."""
    try:
        if isinstance(body, TextNoteIn):
            return text_note(note_id, body.text, body.title)
        if body.text is not None:
            return text_amendment(note_id, body.amends, body.text, body.title)
        return bundle_amendment(body.amends, body.bundle)
    except AmendmentRefused as error:
        raise invalid(list(error.problems)) from None
    except BundleMalformed as error:
        raise Problem(Code.BUNDLE_INVALID, str(error)) from None
    except NoteInvalid as error:
        raise Problem(Code.VALIDATION_FAILED, str(error)) from None


async def require_note(content: OwnContent, caller: Caller | Signer, emr_id: str, note_id: str) -> None:
    """Raises Problem NOTE_NOT_FOUND unless the EMR has a note of that id."""
    start: int | None = 1
    while start is not None:
        page: EmrView = await content.view(caller, emr_id, start)
        if any(note.note_id == note_id for note in page.notes):
            return
        start = page.next
    raise Problem(Code.NOTE_NOT_FOUND, "the EMR has no note with the id that is amended")


def require_same_patient(patient: JsonObject | None, header: OpenedHeader, systems: Sequence[str]) -> None:
    """Raises Problem BUNDLE_INVALID for a Patient whom the hospital recognizes as another than the EMR's.

    A Patient without an identifier that the hospital knows is not held against the EMR's.
    """
    if patient is None:
        return
    try:
        own = recognized_identifier(parse_object(header.demographics.canonical), systems)
        given = recognized_identifier(patient, systems)
    except IdentifierMissing:
        return
    if own.system == given.system and own != given:
        raise Problem(Code.BUNDLE_INVALID, "the bundle's Patient is not the one of this EMR")
