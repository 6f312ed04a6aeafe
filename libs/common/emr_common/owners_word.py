"""What the ledger says of an EMR counts only if the EMR's owner endorsed it.

Where all hospitals endorse every write, the ledger sees to that. Where a majority suffices, others could write about an
EMR without its owner. The projector looks at the endorsers of each write and lets in nothing else, so there public
state is believed once it is what the read model has.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from emr_model.ledger.answers import EmrView, SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.values import Access, Emr
from emr_readmodel.care import emr as emrs
from emr_readmodel.care import note as notes
from emr_readmodel.care import sharing as sharings
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import telemetry
from emr_common.ledger import Ledger
from emr_common.positions import Positions
from emr_common.problems import Problem

ATTEMPTS = 4
"""Comparisons of what the ledger says with the rows of that block, while the owner goes on writing."""
_OF_A_NOTE = ("note_id", "author", "at", "commitment", "sha256")
NO_NOTES = (2, 0)
"""Version to begin with and limit of a page that has nothing sealed in it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OwnersWord:
    """Costs nothing where all endorse. Everything may raise Problem: what the ledger raises, INDEX_BEHIND."""

    engine: AsyncEngine
    ledger: Ledger
    positions: Positions

    async def require(self, view: EmrView) -> None:
        """Waits for the read model. Raises Problem OWNER_DID_NOT_ENDORSE, which is an alarm."""
        if not await self._is_believed(view.emr_id, view.emr, waits=True):
            raise _alarm(view.emr_id)
        if view.notes and not await self.ledger.is_endorsed_by_all() and not await self._has_notes(view):
            raise _alarm(view.emr_id)

    async def refuse_forged(self, view: EmrView) -> None:
        """The same for a state that a write will build on: a read model that is behind holds up no write."""
        if not await self._is_believed(view.emr_id, view.emr, waits=False):
            raise _alarm(view.emr_id)

    async def has(self, sharing: SharingView) -> bool:
        """Whether the owner endorsed where a sharing of this hospital's stands, as far as the read model is."""
        return await self.ledger.is_endorsed_by_all() or await self._has_projected(sharing)

    async def require_sharing(self, emr_id: str) -> None:
        """Of the sharing by which this hospital reads an EMR. Raises as ``require``."""
        if await self.ledger.is_endorsed_by_all():
            return
        for _ in range(ATTEMPTS):
            sharing = await self._received(emr_id)
            await self.positions.reach(await self.ledger.newest_block())
            if await self._has_projected(sharing):
                return
        raise _alarm(emr_id)

    async def _is_believed(self, emr_id: str, shown: Emr, *, waits: bool) -> bool:
        if await self.ledger.is_endorsed_by_all():
            return True
        present = shown
        for _ in range(ATTEMPTS):
            if await self._is_projected(emr_id, present):
                return _is_of_before(shown, present)
            newest = await self.ledger.newest_block()
            if waits:
                await self.positions.reach(newest)
            elif not await self.positions.has(newest):
                return True
            if await self._is_projected(emr_id, present):
                return _is_of_before(shown, present)
            present = await self._present(emr_id)  # the owner may have written since
        return False

    async def _present(self, emr_id: str) -> Emr:
        answer = await self.ledger.evaluate(self.ledger.service, Function.READ_EMR, emr_id, *NO_NOTES)
        return EmrView.from_json(answer).emr

    async def _received(self, emr_id: str) -> SharingView:
        answer = await self.ledger.evaluate(self.ledger.service, Function.GET_SHARING, emr_id, self.ledger.msp_id)
        return SharingView.from_json(answer)

    async def _is_projected(self, emr_id: str, value: Emr) -> bool:
        query = sa.select(sa.exists().where(emrs.c.emr_id == emr_id, *_is_in_row(value)))
        async with self.engine.connect() as connection:
            return bool(await connection.scalar(query))

    async def _has_notes(self, view: EmrView) -> bool:
        """Whether who wrote a note, when, and what it is committed to are as in its row."""
        facts = sa.select(*(notes.c[name] for name in ("version", *_OF_A_NOTE)))
        query = facts.where(notes.c.emr_id == view.emr_id, notes.c.version.in_([note.version for note in view.notes]))
        async with self.engine.connect() as connection:
            known = {version: tuple(rest) for version, *rest in await connection.execute(query)}
        return all(known.get(note.version) == tuple(getattr(note, name) for name in _OF_A_NOTE) for note in view.notes)

    async def _has_projected(self, sharing: SharingView) -> bool:
        query = sa.select(sharings.c.access).where(
            sharings.c.emr_id == sharing.emr_id,
            sharings.c.recipient_msp == sharing.recipient_msp,
            sharings.c.number == sharing.access.number,
        )
        async with self.engine.connect() as connection:
            return _same(await connection.scalar(query), sharing.access)


def _is_in_row(value: Emr) -> list[sa.ColumnElement[bool]]:
    following = value.next_patient_key
    return [
        emrs.c.owner_msp == value.owner,
        emrs.c.patient_id == value.patient_id,
        emrs.c.patient_key == value.patient_key,
        emrs.c.next_patient_key.is_not_distinct_from(following.patient_key if following else None),
        emrs.c.next_patient_key_from.is_not_distinct_from(following.counts_from if following else None),
        emrs.c.version == value.version,
        emrs.c.visits == value.visits,
        emrs.c.demographics_revision == value.demographics_revision,
        emrs.c.demographics_commitment == value.commitment,
        emrs.c.demographics_sha256 == value.sha256,
    ]


def _is_of_before(shown: Emr, present: Emr) -> bool:
    """What was shown may be older by now: an EMR only grows."""
    return shown.version <= present.version and shown.demographics_revision <= present.demographics_revision


def _same(row: object, access: Access) -> bool:
    return bool(row == access.to_wire())


def _alarm(emr_id: str) -> Problem:
    telemetry.CONTENT_MISMATCHES.labels("unendorsed").inc()
    log.error("owner_did_not_endorse", emr_id=emr_id)
    return Problem(Code.OWNER_DID_NOT_ENDORSE)
