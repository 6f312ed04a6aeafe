"""Imports: a bundle is accepted, kept under the EMR's key, and its notes go in one after the other in the background.

A job belongs to whichever instance holds its lock; one that died leaves it to the next. Notes that are in already are
recognized by their ids, so going through a job again changes nothing.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog
from emr_common.background import BackgroundWork
from emr_common.emr_keys import EmrKeyMissing
from emr_common.locks import AdvisoryLocks
from emr_common.problems import Problem
from emr_common.sealing import ContentKey, SealingFailed
from emr_common.wallet import Caller, Wallet
from emr_model.clinical.canonical import canonical_bytes, parse
from emr_model.clinical.errors import ClinicalError
from emr_model.clinical.limits import IMPORT_MAX_BYTES
from emr_model.clinical.notes import BundleReport, NoteContent, notes_from_bundle
from emr_model.clinical.report import describe, ignored_counts
from emr_model.clinical.sealed_form import inflate
from emr_model.ledger.codes import Code

from emr_records.content import OwnContent
from emr_records.notes import NoteAdded, NoteWriter
from emr_records.store import ImportJob, ImportResult, ImportStore

POLL_SECONDS = 5.0
MOST_REMARKS = 200
IGNORED = "IGNORED"

log = structlog.get_logger(__name__)


class JobFailed(Exception):
    """No note of the job can go in, now or later."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


def remarks(report: BundleReport) -> list[ImportResult]:
    """What a report says beside its notes: refused resources, then what was ignored, by type."""
    texts = [(describe(problem), Code.BUNDLE_INVALID.name) for note in report.refused for problem in note.problems]
    texts = texts[:MOST_REMARKS]
    texts += [(f"{kind} ({count}): {reason}", IGNORED) for kind, reason, count in ignored_counts(report)]
    start = len(report.notes)
    return [ImportResult(start + n, resource=text, code=code) for n, (text, code) in enumerate(texts)]


def seal_bundle(key: ContentKey, job_id: str, emr_id: str, body: bytes) -> bytes:
    return key.seal(zlib.compress(body), _bound_to(job_id, emr_id))


def _bound_to(job_id: str, emr_id: str) -> bytes:
    return canonical_bytes({"kind": "import", "importId": job_id, "emrId": emr_id})


@dataclass(frozen=True, repr=False)
class _Work:
    """A job that can be gone through: its notes, and who adds them to which patient's EMR."""

    job: ImportJob
    caller: Caller
    patient_id: str
    notes: tuple[NoteContent, ...]


class ImportWorker(BackgroundWork):
    def __init__(
        self, store: ImportStore, content: OwnContent, writer: NoteWriter, wallet: Wallet, locks: AdvisoryLocks
    ) -> None:
        super().__init__("import", locks, POLL_SECONDS)
        self._store = store
        self._content = content
        self._writer = writer
        self._wallet = wallet

    async def waiting(self) -> Sequence[str]:
        return await self._store.unfinished()

    async def do(self, name: str) -> None:
        job = await self._store.find(name)
        if job is None or job.sealed_bundle is None:
            return
        await self._store.start(name)
        try:
            await self._add_notes(await self._work(job, job.sealed_bundle))
        except JobFailed as failure:
            log.warning("import_failed", import_id=name, code=failure.code.name)
            await self._store.settle(name, ImportResult(0, resource="Bundle", code=failure.code.name))
            await self._store.finish(name, "failed")
        else:
            await self._store.finish(name, "done")

    async def _work(self, job: ImportJob, sealed: bytes) -> _Work:
        """Raises JobFailed, or Problem when it may go better later."""
        caller = await self._wallet.find_enrolled(job.caller)
        if caller is None or caller.held_signer is None:
            raise JobFailed(Code.IDENTITY_UNKNOWN)
        try:
            emr = await self._writer.known_emrs.get(caller, job.emr_id)
            key = await self._content.emr_keys.get(job.emr_id)
            body = inflate(key.open(sealed, _bound_to(job.import_id, job.emr_id)), IMPORT_MAX_BYTES)
            report = await asyncio.to_thread(lambda: notes_from_bundle(parse(body)))
        except Problem as problem:
            if problem.retriable:
                raise
            raise JobFailed(problem.code) from problem
        except EmrKeyMissing as error:
            raise JobFailed(Code.EMR_ERASED) from error
        except (SealingFailed, ClinicalError) as error:
            raise JobFailed(Code.BUNDLE_INVALID) from error
        return _Work(job, caller, emr.patient_id, report.notes)

    async def _add_notes(self, work: _Work) -> None:
        """Raises Problem for what may go better later; what will not is the note's result."""
        settled = {result.position for result in await self._store.results(work.job.import_id)}
        for position, note in _left(work.notes, settled):
            note_id = self._writer.note_ids.of(work.patient_id, note)
            try:
                added = await self._writer.add(work.caller, work.job.emr_id, note_id, note)
            except Problem as problem:
                if problem.retriable:
                    raise
                result = ImportResult(position, note_id=note_id, code=problem.code.name)
            else:
                result = _result(position, added)
            await self._store.settle(work.job.import_id, result)


def _left(notes: tuple[NoteContent, ...], settled: set[int]) -> Iterator[tuple[int, NoteContent]]:
    return ((position, note) for position, note in enumerate(notes) if position not in settled)


def _result(position: int, added: NoteAdded) -> ImportResult:
    result = ImportResult(position, note_id=added.note_id, version=added.version)
    if added.committed is None:
        return result
    ids = added.committed
    return ImportResult(
        position, added.note_id, version=added.version, transaction_id=ids.transaction_id, block=ids.block
    )
