"""What each fact means for the read model: decisions only. Rows are read before (``State``) and written after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emr_model.ledger import keys
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import BlockMark, LedgerEvent
from emr_model.ledger.values import Access, Disclosure, Emr, End, Event, Life, LifeState, Note, Organization

from emr_indexer.projector import rows
from emr_indexer.projector.changes import CannotProject, Changes, Refused
from emr_indexer.projector.contents import Contents, Pseudonyms
from emr_indexer.refusals import Refusal

Position = tuple[int, int, int]


@dataclass
class State:
    """What is known before an event: of the subjects and partitions at hand, kept up as events are applied.

    ``emrs`` are rows of ``care.emr`` without content; ``ended`` the largest ended number by EMR and recipient;
    ``stopped`` the ids of messages that stopped a partition and were not projected yet.
    """

    positions: dict[str, Position] = field(default_factory=dict)
    emrs: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    blocks: dict[int, int] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Projection:
    """Applies messages one by one, in the order of their partition, to ``state`` and ``changes``."""

    msp_id: str
    contents: Contents
    pseudonyms: Pseudonyms
    state: State
    changes: Changes

    def mark(self, partition: int, mark: BlockMark) -> None:
        """Everything of the partition up to this block is in. Raises CannotProject if a block was left out."""
        known = self.state.blocks.get(partition, -1)
        if mark.block > known + 1:
            raise CannotProject(Refusal.EVENTS_MISSING)
        if mark.block == known + 1:
            self.state.blocks[partition] = mark.block
            self.changes.marks[partition] = mark

    def event(self, partition: int, event: LedgerEvent) -> bool:
        """Whether the event was new. Raises CannotProject; nothing of the event is then in ``changes``."""
        if event.block > self.state.blocks.get(partition, -1) + 1:
            raise CannotProject(Refusal.EVENTS_MISSING)
        if event.position <= self.state.positions.get(event.subject, (-1, -1, -1)):
            return False
        refusal = self._apply(event)
        if refusal is not None:
            self._refuse(event, refusal)
        self.state.positions[event.subject] = event.position
        self.changes.positions[event.subject] = event.position
        return True

    def _apply(self, event: LedgerEvent) -> Refusal | None:
        try:
            fact = event.fact
        except ValueMalformed as error:
            raise CannotProject(Refusal.VALUE_MALFORMED) from error
        if isinstance(fact, Organization):
            return self._organization(event, fact)
        if isinstance(fact, Emr):
            return self._emr(event, fact)
        emr = self.state.emrs.get(event.attributes[0])
        if emr is None:
            raise CannotProject(Refusal.EMR_UNKNOWN)
        if emr["owner_msp"] not in event.endorsers:
            return Refusal.OWNER_DID_NOT_ENDORSE
        match fact:
            case Note():
                return self._note(event, fact, emr)
            case LifeState():
                return self._life(event, fact, emr)
        if self.msp_id not in (emr["owner_msp"], rows.recipient(event, fact)):
            return None  # a sharing between others
        match fact:
            case Access():
                return self._access(event, fact, emr)
            case End():
                return self._end(event, fact)
            case Disclosure():
                emr_id, transaction_id = event.attributes
                self.changes.disclosures[emr_id, transaction_id] = rows.disclosure(event, fact, emr)
        return None

    def _organization(self, event: LedgerEvent, fact: Organization) -> Refusal | None:
        msp_id = event.attributes[0]
        if msp_id not in event.endorsers:
            return Refusal.OWNER_DID_NOT_ENDORSE
        self.changes.organizations[msp_id] = rows.organization(event, fact)
        return None

    def _emr(self, event: LedgerEvent, fact: Emr) -> Refusal | None:
        emr_id = event.attributes[0]
        known = self.state.emrs.get(emr_id)
        if known is not None and known["owner_msp"] != fact.owner:
            return Refusal.OWNER_CHANGED
        if fact.owner not in event.endorsers:
            return Refusal.OWNER_DID_NOT_ENDORSE
        tells_of_content = fact.event in (Event.EMR_CREATED, Event.DEMOGRAPHICS_UPDATED)
        is_erased = known is not None and known["life"] == Life.ERASED
        if fact.owner == self.msp_id and tells_of_content and not is_erased:
            demographics = self.contents.demographics(event, fact)
            if demographics is not None:
                self.changes.demographics[emr_id] = {"emr_id": emr_id, **demographics}
        self._put_emr(rows.emr(event, fact, known))
        return None

    def _note(self, event: LedgerEvent, fact: Note, emr: Mapping[str, Any]) -> Refusal | None:
        if emr["owner_msp"] != self.msp_id:
            return None
        emr_id, version = event.attributes[0], keys.number(event.attributes[1])
        opened = None if emr["life"] == Life.ERASED else self.contents.note(event, fact)
        self.changes.notes[emr_id, version] = rows.note(event, fact, emr, opened)
        if opened is not None:
            for position, concept in enumerate(opened.conditions):
                self.changes.conditions[emr_id, version, position] = rows.concept(emr_id, version, position, concept)
            for position, concept in enumerate(opened.medications):
                self.changes.medications[emr_id, version, position] = rows.concept(emr_id, version, position, concept)
            pseudonym = self.pseudonyms.of(emr_id, opened.year)
            row = {"emr_id": emr_id, "period": opened.year, "pseudonym": pseudonym}
            self.changes.pseudonyms[emr_id, opened.year] = row
        return None

    def _access(self, event: LedgerEvent, fact: Access, emr: Mapping[str, Any]) -> Refusal | None:
        emr_id, recipient_msp = event.attributes
        self.changes.sharings[emr_id, recipient_msp, fact.number] = rows.sharing(event, fact, emr)
        return None

    def _end(self, event: LedgerEvent, fact: End) -> Refusal | None:
        emr_id, recipient_msp = event.attributes
        known = self.state.ended.get((emr_id, recipient_msp), 0)
        if fact.number < known:
            return Refusal.END_DECREASED
        self.state.ended[emr_id, recipient_msp] = fact.number
        self.changes.endings[emr_id, recipient_msp] = rows.ending(event, fact)
        if fact.number > known:
            self.changes.ended.append(rows.ended(event, fact))
        return None

    def _life(self, event: LedgerEvent, fact: LifeState, emr: Mapping[str, Any]) -> Refusal | None:
        if emr["life"] == Life.ERASED and fact.state is not Life.ERASED:
            return Refusal.LIFE_DECREASED
        self._put_emr({**emr, **rows.written_by(event), "life": fact.state.value})
        if fact.state is Life.ERASED:
            self.changes.erase(event.attributes[0])
        return None

    def _put_emr(self, row: dict[str, Any]) -> None:
        self.state.emrs[row["emr_id"]] = row
        self.changes.emrs[row["emr_id"]] = row

    def _refuse(self, event: LedgerEvent, code: Refusal) -> None:
        self.changes.refused.append(Refused.by_projector(event, code))
