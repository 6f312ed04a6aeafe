"""Notes that wait for another hospital: sealed in Postgres, one after the other for each EMR, until they commit.

An EMR's queue belongs to whichever instance holds its lock; one that died leaves it to the next. A note whose outcome
was not learnt is looked up by its transaction, and recognized by its id when it is proposed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from emr_common.background import BackgroundWork
from emr_common.emr_keys import EmrKeyMissing
from emr_common.locks import AdvisoryLocks
from emr_common.problems import Problem
from emr_common.queued_notes import QueuedNote, QueuedNotes
from emr_common.sealing import ContentKey, SealingFailed
from emr_common.wallet import Wallet
from emr_model.clinical.canonical import canonical_bytes
from emr_model.clinical.note_form import NoteKind
from emr_model.clinical.notes import NoteContent
from emr_model.ledger.codes import Code

from emr_records.content import OwnContent
from emr_records.notes import NoteAdded, NoteWriter

POLL_SECONDS = 2.0

log = structlog.get_logger(__name__)


def seal_queued(key: ContentKey, ticket: str, emr_id: str, content: bytes) -> bytes:
    return key.seal(content, _bound_to(ticket, emr_id))


def _bound_to(ticket: str, emr_id: str) -> bytes:
    return canonical_bytes({"kind": "queued-note", "ticket": ticket, "emrId": emr_id})


@dataclass(frozen=True)
class _TicketJournal:
    """Keeps the transaction of a queued note before it is handed in."""

    notes: QueuedNotes
    ticket: str

    def plan(self, ids: Mapping[str, Any]) -> None:
        """Its ids stand in the queue already."""

    async def submitting(self, transaction_id: str, result: bytes) -> None:
        await self.notes.submitting(self.ticket, transaction_id)


class QueueWorker(BackgroundWork):
    """A piece is what waits for one EMR."""

    def __init__(
        self, notes: QueuedNotes, content: OwnContent, writer: NoteWriter, wallet: Wallet, locks: AdvisoryLocks
    ) -> None:
        super().__init__("queue", locks, POLL_SECONDS)
        self._notes = notes
        self._content = content
        self._writer = writer
        self._wallet = wallet

    async def waiting(self) -> Sequence[str]:
        return await self._notes.waiting()

    async def do(self, name: str) -> None:
        while (note := await self._notes.first(name)) is not None:
            await self._settle(note)

    async def _settle(self, note: QueuedNote) -> None:
        """Raises Problem or OutcomePending for what may go better later: then the notes behind it wait too."""
        try:
            added = await self._added(note)
        except Problem as problem:
            if problem.retriable:
                raise
            log.warning("queued_note_refused", ticket=note.ticket, code=problem.code.name)
            await self._notes.refused(note.ticket, problem.code)
        else:
            await self._notes.committed(note.ticket, added.version, await self._block(note, added))

    async def _added(self, note: QueuedNote) -> NoteAdded:
        caller = await self._wallet.find_enrolled(note.caller)
        if caller is None or caller.held_signer is None:
            raise Problem(Code.IDENTITY_UNKNOWN)
        journal = _TicketJournal(self._notes, note.ticket)
        return await self._writer.add(
            caller,
            note.emr_id,
            note.note_id,
            await self._opened(note),
            expected_version=note.expected_version,
            attempt=journal,
        )

    async def _opened(self, note: QueuedNote) -> NoteContent:
        try:
            key = await self._content.emr_keys.get(note.emr_id)
            content = key.open(note.sealed_note or b"", _bound_to(note.ticket, note.emr_id))
        except EmrKeyMissing as error:
            raise Problem(Code.EMR_ERASED) from error
        except SealingFailed as error:
            raise Problem(Code.CONTENT_MISMATCH) from error
        return NoteContent(NoteKind(note.kind), content)

    async def _block(self, note: QueuedNote, added: NoteAdded) -> int | None:
        """That of an earlier attempt, when the note was there already."""
        if added.committed is not None:
            return added.committed.block
        commit = None if note.transaction_id is None else await self._content.ledger.find(note.transaction_id)
        return commit.block_number if commit is not None and commit.is_valid else None
