"""What an approval would share, before it is given: the patient sees all of it, admission staff no content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from emr_common.access_log import AccessLog
from emr_common.contents import OpenedEmr, OpenedNote, Place, content_problems, open_emr
from emr_common.emr_keys import EmrKeys
from emr_common.ledger import Ledger
from emr_common.owners_word import OwnersWord
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.clinical.canonical import parse_object
from emr_model.clinical.facts import NoteFacts, note_facts
from emr_model.ledger.answers import EmrView, OrganizationView, SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.sharing import Side
from hlf.identity import Signer

NO_NOTES = 0


@dataclass(frozen=True)
class Previews:
    """Both raise Problem: the contract's codes, CONTENT_UNAVAILABLE, or CONTENT_MISMATCH and OWNER_DID_NOT_ENDORSE,
    which are alarms.
    """

    ledger: Ledger
    emr_keys: EmrKeys
    access_log: AccessLog
    word: OwnersWord

    async def for_patient(
        self, caller: Caller, recipient_msp: str, version: int | None, signed: EmrView | None = None
    ) -> dict[str, Any]:
        """Everything that the recipient would get at ``version``, which is the one that the hospital has approved and
        the patient has not, else the EMR's current one. Notes that are ``isNew`` came after the patient's last
        approval.

        ``signed``: what the ledger answered a patient who keeps the key. It has judged who asks: the rest is read as
        the service.
        """
        emr_id = caller.emr_id if signed is None else signed.emr_id
        if emr_id is None:
            raise Problem(Code.EMR_NOT_FOUND)
        reader = caller if signed is None else self.ledger.service
        recipient = await self._recipient(reader, recipient_msp)
        sharing = await self._sharing(reader, emr_id, recipient_msp)
        meant = _meant(sharing, Side.PATIENT, version)
        if signed is None:
            opened = await self._opened(caller, Function.GET_OWN_EMR, emr_id, meant)
        else:
            opened = await self._opened(reader, Function.READ_EMR, emr_id, meant, emr_id, first=signed)
        await self._log(caller, emr_id)
        approved = _approved(sharing, Side.PATIENT)
        notes = [{**_outline(note, approved), "content": _content(note)} for note in opened.notes]
        demographics = orjson.Fragment(opened.demographics.canonical)
        return {**_preview(recipient, sharing, opened, approved), "demographics": demographics, "notes": notes}

    async def for_owner(
        self,
        caller: Caller,
        emr_id: str,
        recipient_msp: str,
        version: int | None,
        signed: OrganizationView | None = None,
    ) -> dict[str, Any]:
        """The same without content: which notes, of what kind and when. ``signed``: the recipient, as the ledger
        answered staff who keep the key.
        """
        reader = caller if signed is None else self.ledger.service
        recipient = signed or await self._recipient(reader, recipient_msp)
        await self.ledger.evaluate(self.ledger.service, Function.READ_EMR, emr_id, 1, NO_NOTES)  # EMR_NOT_OWNED
        sharing = await self._sharing(reader, emr_id, recipient_msp)
        opened = await self._opened(
            self.ledger.service, Function.READ_EMR, emr_id, _meant(sharing, Side.OWNER, version), emr_id
        )
        await self._log(caller, emr_id)
        approved = _approved(sharing, Side.OWNER)
        notes = [_outline(note, approved) for note in opened.notes]
        return {**_preview(recipient, sharing, opened, approved), "notes": notes}

    async def _opened(
        self,
        reader: Caller | Signer,
        function: Function,
        emr_id: str,
        version: int | None,
        *arguments: str,
        first: EmrView | None = None,
    ) -> OpenedEmr:
        """``first`` is its first page if that is known. Raises Problem APPROVAL_VERSION_UNKNOWN for a version that the
        EMR does not have yet.
        """

        async def page(start: int) -> EmrView:
            if first is not None and start == 1:
                view = first
            else:
                view = EmrView.from_json(await self.ledger.evaluate(reader, function, *arguments, start))
            await self.word.require(view)
            if version is not None and version > view.emr.version:
                raise Problem(Code.APPROVAL_VERSION_UNKNOWN)
            return view

        with content_problems():
            key = await self.emr_keys.get(emr_id)
            place = Place(self.ledger.channel, self.ledger.msp_id, emr_id)
            return await open_emr(place, key, page, up_to=version)

    async def _sharing(self, reader: Caller | Signer, emr_id: str, recipient_msp: str) -> SharingView | None:
        """The sharing that stands between EMR and recipient; None if there is none yet, or none any more."""
        try:
            answer = await self.ledger.evaluate(reader, Function.GET_SHARING, emr_id, recipient_msp)
        except Problem as problem:
            if problem.code is not Code.SHARING_NOT_FOUND:
                raise
            return None
        sharing = SharingView.from_json(answer)
        return sharing if sharing.state.stands else None

    async def _recipient(self, reader: Caller | Signer, msp_id: str) -> OrganizationView:
        self.require_other(msp_id)
        return OrganizationView.from_json(await self.ledger.evaluate(reader, Function.GET_ORGANIZATION, msp_id))

    def require_other(self, msp_id: str) -> None:
        """Raises Problem SHARING_WITH_SELF."""
        if msp_id == self.ledger.msp_id:
            raise Problem(Code.SHARING_WITH_SELF)

    async def _log(self, caller: Caller, emr_id: str) -> None:
        await self.access_log.record(caller, emr_id=emr_id, owner_msp=self.ledger.msp_id, action="preview-sharing")


def _meant(sharing: SharingView | None, side: Side, version: int | None) -> int | None:
    """The version that an approval of ``side`` would mean; None for the EMR's current one."""
    if version is not None or sharing is None or sharing.awaiting is not side:
        return version
    return _approved(sharing, Side.OWNER if side is Side.PATIENT else Side.PATIENT)


def _approved(sharing: SharingView | None, side: Side) -> int | None:
    if sharing is None:
        return None
    approval = sharing.access.owner_approval if side is Side.OWNER else sharing.access.patient_approval
    return None if approval is None else approval.version


def _preview(
    recipient: OrganizationView, sharing: SharingView | None, opened: OpenedEmr, approved: int | None
) -> dict[str, Any]:
    request = None if sharing is None else sharing.access.request
    return {
        "emrId": opened.emr_id,
        "recipientMsp": recipient.msp_id,
        "recipientName": recipient.organization.name,
        "state": None if sharing is None else sharing.state.value,
        "purpose": None if request is None else request.purpose.value,
        "version": len(opened.notes),
        "currentVersion": opened.emr.version,
        "approvedVersion": approved,
        "readableVersion": None if sharing is None else sharing.readable_version,
        "demographicsRevision": opened.emr.demographics_revision,
    }


def _outline(note: OpenedNote, approved: int | None) -> dict[str, Any]:
    facts = _facts(note)
    return {
        "version": note.view.version,
        "noteId": note.view.note_id,
        "kind": facts.kind.value,
        "at": note.view.at,
        "periodStart": facts.period_start,
        "isNew": note.view.version > (approved or 0),
    }


def _facts(note: OpenedNote) -> NoteFacts:
    return note_facts(parse_object(note.content.canonical))


def _content(note: OpenedNote) -> orjson.Fragment:
    return orjson.Fragment(note.content.canonical)
