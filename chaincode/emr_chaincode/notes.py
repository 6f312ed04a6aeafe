"""Notes: added one version after the other, read page by page."""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import PAGE_BYTES, EmrView, NoteAdded, NoteView
from emr_model.ledger.codes import Code
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import Note, NoteVersion

from emr_chaincode import rules
from emr_chaincode.arguments import DEFAULT_PAGE, LARGEST_PAGE
from emr_chaincode.call import Call
from emr_chaincode.state import Record, State, decode, found

_FETCHED_AT_ONCE = 16


async def add_emr_note(call: Call) -> NoteAdded:
    emr_id, note_id = call.arguments.identifier("emrId"), call.arguments.identifier("noteId")
    expected, is_visit = call.arguments.number("expectedVersion"), call.arguments.flag("isVisit")
    sha256, commitment = call.arguments.digest("sha256"), call.arguments.digest("commitment")
    sealed = call.arguments.sealed("note", sha256)
    record, known = await _record_and_known(call, emr_id, note_id)
    emr = rules.add_note(record.emr, expected, known, is_visit=is_visit, caller=call.caller, now=call.now)
    note = Note(note_id, call.caller.enrolment_id, call.now, commitment, sha256)
    call.state.put(keys.emr(emr_id), emr)
    call.state.put(keys.note(emr_id, emr.version), note)
    call.state.put(keys.note_id(emr_id, note_id), NoteVersion(emr.version))
    call.state.put_sealed(emr.owner, keys.note(emr_id, emr.version), sealed)
    return NoteAdded(emr.version)


async def read_emr(call: Call) -> EmrView:
    return await _read(call, await call.owned_record())


async def get_own_emr(call: Call) -> EmrView:
    return await _read(call, await call.patients_record())


async def _record_and_known(call: Call, emr_id: str, note_id: str) -> tuple[Record, int | None]:
    emr, life, index = await call.state.read(keys.emr(emr_id), keys.life(emr_id), keys.note_id(emr_id, note_id))
    record = found(await call.state.record_from(emr_id, emr, life))
    rules.require_owner(call.caller, record.emr)
    rules.require_not_erased(record.life)
    known = decode(NoteVersion, index)
    return record, known.version if known else None


async def _read(call: Call, record: Record) -> EmrView:
    first = call.arguments.optional_number("fromVersion", 1, least=1, largest=keys.LARGEST_NUMBER - 1)
    limit = call.arguments.optional_number("limit", DEFAULT_PAGE, largest=LARGEST_PAGE)
    demographics = await _demographics(call.state, record) if first == 1 else None
    last = min(record.emr.version, first + limit - 1)
    notes = await _notes(call.state, record, first, last)
    following = first + len(notes)
    return EmrView(
        emr_id=record.emr_id,
        emr=record.emr,
        life=record.life,
        demographics=demographics,
        notes=notes,
        next=following if following <= record.emr.version else None,
    )


async def _demographics(state: State, record: Record) -> str | None:
    key = keys.demographics(record.emr_id, record.emr.demographics_revision)
    (sealed,) = await state.get_sealed(record.emr.owner, [key])
    return sealed


async def _notes(state: State, record: Record, first: int, last: int) -> tuple[NoteView, ...]:
    """Versions ``first`` to ``last``, or fewer when the page is full; one always fits."""
    notes: list[NoteView] = []
    size = 0
    for start in range(first, last + 1, _FETCHED_AT_ONCE):
        for note in await _fetch(state, record, range(start, min(start + _FETCHED_AT_ONCE, last + 1))):
            size += _sealed_size(note)
            if notes and size > PAGE_BYTES:
                return tuple(notes)
            notes.append(note)
    return tuple(notes)


async def _fetch(state: State, record: Record, versions: range) -> list[NoteView]:
    wanted = [keys.note(record.emr_id, version) for version in versions]
    facts = await state.read(*wanted)
    contents = await state.get_sealed(record.emr.owner, wanted)
    return [_view(*item) for item in zip(versions, facts, contents, strict=True)]


def _view(version: int, raw: bytes | None, sealed: str | None) -> NoteView:
    note = decode(Note, raw)
    if note is None:
        raise Refused(Code.INTERNAL_ERROR, "the ledger lacks a note")
    return NoteView(version, note.note_id, note.author, note.at, note.commitment, note.sha256, sealed)


def _sealed_size(note: NoteView) -> int:
    return 0 if note.sealed is None else len(note.sealed) * 3 // 4
