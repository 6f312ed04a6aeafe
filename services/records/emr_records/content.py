"""Reading own EMRs from the ledger: every page verified against public state, then opened."""

from __future__ import annotations

from dataclasses import dataclass

from emr_common.access_log import Entry
from emr_common.contents import OpenedEmr, OpenedNote, Place, ReadPage, content_problems, open_emr, require_held
from emr_common.emr_keys import EmrKeyMissing, EmrKeys
from emr_common.ledger import Ledger
from emr_common.owners_word import OwnersWord
from emr_common.problems import Problem
from emr_common.sealing import ContentKey
from emr_common.wallet import Caller
from emr_model.clinical.sealed_form import Unpacked
from emr_model.ledger.answers import EmrFound, EmrView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from hlf.identity import Signer

NO_NOTES = 0


@dataclass(frozen=True, repr=False)
class OpenedHeader:
    """An EMR without its notes."""

    view: EmrView
    demographics: Unpacked


@dataclass(frozen=True)
class OwnContent:
    """The hospital's own EMRs, as a caller may see them: the contract judges by the caller's certificate.

    What has to be known before a caller who keeps the key has signed anything is read as the service itself.

    A ``read`` is in the access log before anything is opened for it, and is not if there is nothing to open.

    Everything raises Problem: the contract's codes, CONTENT_UNAVAILABLE, or CONTENT_MISMATCH and OWNER_DID_NOT_ENDORSE,
    which are alarms.
    """

    ledger: Ledger
    emr_keys: EmrKeys
    word: OwnersWord

    async def view(self, caller: Caller | Signer, emr_id: str, start: int = 1, limit: int | None = None) -> EmrView:
        """A page as the ledger has it, nothing opened."""
        arguments = [start] if limit is None else [start, limit]
        return EmrView.from_json(await self.ledger.evaluate(caller, Function.READ_EMR, emr_id, *arguments))

    async def version(self, caller: Caller | Signer, emr_id: str) -> EmrView:
        """The public part only, for a write to build on: nothing sealed is read."""
        view = await self.view(caller, emr_id, 2, NO_NOTES)
        await self.word.refuse_forged(view)
        return view

    async def find(self, caller: Caller, patient_id: str) -> EmrFound:
        return EmrFound.from_json(await self.ledger.evaluate(caller, Function.GET_EMR_BY_PATIENT_ID, patient_id))

    async def header(self, caller: Caller | Signer, emr_id: str, read: Entry | None = None) -> OpenedHeader:
        view = await self.view(caller, emr_id, 1, NO_NOTES)
        return await self.open_header(view, read)

    async def open_header(self, view: EmrView, read: Entry | None = None) -> OpenedHeader:
        await self.word.require(view)
        with content_problems():
            require_held(view.demographics)
            key = await self.emr_keys.get(view.emr_id, read)
            return OpenedHeader(view, self.place(view.emr_id).open_demographics(key, view.emr, view.demographics))

    async def notes(
        self, caller: Caller, emr_id: str, start: int, limit: int, read: Entry | None = None
    ) -> tuple[EmrView, list[OpenedNote]]:
        view = await self.view(caller, emr_id, start, limit)
        return view, await self.open_notes(view, read)

    async def open_notes(self, view: EmrView, read: Entry | None = None) -> list[OpenedNote]:
        await self.word.require(view)
        with content_problems():
            require_held(*(note.sealed for note in view.notes))
            key = await self.emr_keys.get(view.emr_id, read)
            return [self.place(view.emr_id).open_note(key, note) for note in view.notes]

    async def note(self, caller: Caller, emr_id: str, version: int, read: Entry | None = None) -> OpenedNote:
        """Raises Problem NOTE_NOT_FOUND too."""
        view = await self.view(caller, emr_id, version, 1)
        if not view.notes:
            raise Problem(Code.NOTE_NOT_FOUND)
        return (await self.open_notes(view, read))[0]

    async def own_emr(self, caller: Caller) -> OpenedEmr:
        """The whole EMR of the patient who calls."""
        if caller.emr_id is None:
            raise Problem(Code.EMR_NOT_FOUND)

        async def page(start: int) -> EmrView:
            return EmrView.from_json(await self.ledger.evaluate(caller, Function.GET_OWN_EMR, start))

        return await self._whole(caller.emr_id, page)

    async def whole(self, first: EmrView) -> OpenedEmr:
        """The whole EMR, whose first page its patient has signed for: the rest is read as the service."""

        async def page(start: int) -> EmrView:
            return first if start == 1 else await self.view(self.ledger.service, first.emr_id, start)

        return await self._whole(first.emr_id, page)

    async def _whole(self, emr_id: str, read: ReadPage) -> OpenedEmr:
        async def page(start: int) -> EmrView:
            view = await read(start)
            await self.word.require(view)
            return view

        with content_problems():
            key = await self.emr_keys.get(emr_id)
            return await open_emr(self.place(emr_id), key, page)

    async def key(self, emr_id: str) -> ContentKey:
        """To seal what is written. Where there is none, the ledger says whether the EMR was erased (EMR_ERASED)."""
        try:
            return await self.emr_keys.get(emr_id)
        except EmrKeyMissing as error:
            await self.version(self.ledger.service, emr_id)
            raise Problem(Code.CONTENT_UNAVAILABLE) from error

    def place(self, emr_id: str) -> Place:
        return Place(self.ledger.channel, self.ledger.msp_id, emr_id)
