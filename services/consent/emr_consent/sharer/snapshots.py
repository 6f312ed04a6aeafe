"""Makes the snapshot that both sides have approved: opened, verified, and sealed again for the recipient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from emr_common.contents import OpenedEmr, Place, open_emr
from emr_common.emr_keys import EmrKeys
from emr_common.ledger import Committed, Ledger
from emr_common.problems import Problem
from emr_common.sealing import SealingPublicKey, associated_data
from emr_model.clinical.snapshot import SnapshotDemographics, SnapshotNote, build
from emr_model.ledger.answers import EmrView, OrganizationView, PurgeableList, SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function


@dataclass(frozen=True)
class Snapshots:
    """The steps of the sharer on the ledger, each repeatable: the contract refuses what is done already."""

    ledger: Ledger
    emr_keys: EmrKeys

    async def sharing(self, emr_id: str, recipient_msp: str) -> SharingView:
        """Where the sharing stands now. Raises Problem."""
        answer = await self.ledger.evaluate(self.ledger.service, Function.GET_SHARING, emr_id, recipient_msp)
        return SharingView.from_json(answer)

    async def share(self, sharing: SharingView) -> Committed:
        """Shares the approved version. Raises Problem, EmrKeyMissing, ContentMissing or ContentMismatch."""
        version, approval = sharing.pending_version, sharing.access.owner_approval
        assert version is not None and approval is not None
        recipient_key = await self._recipient_key(sharing.recipient_msp, approval.recipient_key_id)
        sealed = recipient_key.seal(await self._content(sharing.emr_id, version), self._bound_to(sharing, version))
        return await self.ledger.submit(
            self.ledger.service,
            Function.SHARE_EMR_SNAPSHOT,
            sharing.emr_id,
            sharing.recipient_msp,
            version,
            hashlib.sha256(sealed).hexdigest(),
            transient={"snapshot": sealed},
        )

    async def expire(self, sharing: SharingView) -> Committed:
        """Ends a sharing whose time has run out. Raises Problem."""
        return await self.ledger.submit(
            self.ledger.service, Function.EXPIRE_SHARING, sharing.emr_id, sharing.recipient_msp
        )

    async def purge_ended(self, found: Callable[[Sequence[tuple[str, int]]], Awaitable[None]]) -> int:
        """Purges every snapshot received by this hospital whose sharing no longer stands; how many. Raises Problem.

        ``found`` is told EMRs and sharings' numbers before they are purged.
        """
        purged, bookmark = 0, ""
        while True:
            answer = await self.ledger.evaluate(
                self.ledger.service, Function.LIST_PURGEABLE_SNAPSHOTS, "", 100, bookmark
            )
            page = PurgeableList.from_json(answer)
            if page.purgeable:
                await found([(one.emr_id, int(name.split("~")[0])) for one in page.purgeable for name in one.snapshots])
            for one in page.purgeable:
                names = json.dumps(one.snapshots)
                await self.ledger.submit(self.ledger.service, Function.PURGE_SNAPSHOTS, one.emr_id, names)
                purged += len(one.snapshots)
            bookmark = page.bookmark
            if not bookmark:
                return purged

    async def _content(self, emr_id: str, version: int) -> bytes:
        place = Place(self.ledger.channel, self.ledger.msp_id, emr_id)
        opened = await open_emr(
            place, await self.emr_keys.get(emr_id), lambda start: self._page(emr_id, start), up_to=version
        )
        return build(_demographics(opened), _notes(opened))

    async def _page(self, emr_id: str, start: int) -> EmrView:
        return EmrView.from_json(await self.ledger.evaluate(self.ledger.service, Function.READ_EMR, emr_id, start))

    async def _recipient_key(self, msp_id: str, key_id: str) -> SealingPublicKey:
        answer = await self.ledger.evaluate(self.ledger.service, Function.GET_ORGANIZATION, msp_id)
        for key in OrganizationView.from_json(answer).organization.sealing_keys:
            if key.id == key_id:
                return SealingPublicKey.from_base64(key.keyset)
        raise Problem(Code.RECIPIENT_KEY_UNKNOWN)

    def _bound_to(self, sharing: SharingView, version: int) -> bytes:
        return associated_data(
            channel=self.ledger.channel,
            owner=sharing.owner_msp,
            recipient=sharing.recipient_msp,
            kind="snapshot",
            emr_id=sharing.emr_id,
            version=version,
        )


def _demographics(opened: OpenedEmr) -> SnapshotDemographics:
    content = opened.demographics
    return SnapshotDemographics(opened.emr.demographics_revision, content.salt, content.canonical)


def _notes(opened: OpenedEmr) -> list[SnapshotNote]:
    return [
        SnapshotNote(note.view.version, note.view.note_id, note.content.salt, note.content.canonical)
        for note in opened.notes
    ]
