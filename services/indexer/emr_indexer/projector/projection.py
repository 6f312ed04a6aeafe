"""What each fact means for the read model: decisions only. Rows are read before (``State``) and written after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from emr_model.ledger import keys
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import BlockMark, LedgerEvent
from emr_model.ledger.keys import ObjectType
from emr_model.ledger.values import Access, Disclosure, Emr, End, Event, Life, LifeState, Note, Organization

from emr_indexer.projector import rows
from emr_indexer.projector.changes import WITHOUT_DEMOGRAPHICS, CannotProject, Changes, Parked, Refused, Row
from emr_indexer.projector.contents import Contents, OpenedNote, Pseudonyms
from emr_indexer.projector.succession import access_follows, emr_follows
from emr_indexer.refusals import Refusal

Position = tuple[int, int, int]
NOWHERE: Position = (-1, -1, -1)


@dataclass
class State:
    """What is known before an event: of the subjects and partitions at hand, kept up as events are applied.

    ``emrs`` are rows of ``care.emr`` without content; ``ended`` the largest ended number and ``accesses`` the newest
    sharing by EMR and recipient;
    ``parked`` the subjects that wait; ``placeholders`` whole rows of ``care.note`` without content, by EMR and version,
    and ``without_demographics`` own EMRs without theirs, of those whose content may have come late; ``stopped`` the ids
    of messages that stopped a partition and were not projected yet, ``skipped`` those that a person gave up.
    """

    positions: dict[str, Position] = field(default_factory=dict)
    emrs: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    accesses: dict[tuple[str, str], Access] = field(default_factory=dict)
    blocks: dict[int, int] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    placeholders: dict[tuple[str, int], Row] = field(default_factory=dict)
    without_demographics: set[str] = field(default_factory=set)
    stopped: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()


class Effect(StrEnum):
    """What became of an event."""

    PROJECTED = "projected"
    REPEATED = "repeated"
    FILLED = "filled"  # repeated, but with the content that was missing
    PARKED = "parked"


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

    def event(self, partition: int, event: LedgerEvent) -> Effect:
        """Applies the event, or lets it wait: from the first event on that cannot be applied, its subject is parked.

        Raises CannotProject if a block was left out.
        """
        if event.block > self.state.blocks.get(partition, -1) + 1:
            raise CannotProject(Refusal.EVENTS_MISSING)
        return self.replay(event)

    def replay(self, event: LedgerEvent) -> Effect:
        """The same for an event that waited, and so is known to follow on what is in."""
        if event.position <= self.state.positions.get(event.subject, NOWHERE):
            return Effect.FILLED if self._fill(event) else Effect.REPEATED
        if event.subject in self.state.parked:
            self._wait(event)
            return Effect.PARKED
        try:
            refusal = self._apply(event)
        except CannotProject as failure:
            self.park(event, failure.code)
            return Effect.PARKED
        if refusal is not None:
            self._refuse(event, refusal)
        self.state.positions[event.subject] = event.position
        self.changes.positions[event.subject] = event.position
        return Effect.PROJECTED

    def park(self, event: LedgerEvent, code: Refusal) -> None:
        """From this event on, everything about its subject waits."""
        self.state.parked.add(event.subject)
        self.changes.parked[event.subject] = Parked(event.subject, event.id, code.value)
        self._refuse(event, code)
        self._wait(event)

    def _wait(self, event: LedgerEvent) -> None:
        """An erasure takes content away even so: what waits would not bring it back."""
        self.changes.waiting[event.id] = event
        emr = self.state.emrs.get(event.subject)
        if emr is not None and emr["owner_msp"] in event.endorsers and _tells_of_erasure(event):
            self.changes.erase(event.subject)

    def _fill(self, event: LedgerEvent) -> bool:
        """Whether an event that is in already brings the content that its row lacks."""
        if event.sealed is None:
            return False
        try:
            match event.fact:
                case Note() as note:
                    return self._fill_note(event, note)
                case Emr() as emr:
                    return self._fill_demographics(event, emr)
        except ValueMalformed:
            pass
        except CannotProject as failure:
            self._refuse(event, failure.code)
        return False

    def _fill_note(self, event: LedgerEvent, fact: Note) -> bool:
        emr_id, version = event.attributes[0], keys.number(event.attributes[1])
        row = self.state.placeholders.get((emr_id, version))
        if row is None or row["sha256"] != fact.sha256 or self.state.emrs[emr_id]["life"] == Life.ERASED:
            return False
        opened = self.contents.note(event, fact)
        if opened is None:
            return False
        self._put_note(emr_id, version, {**row, **opened.columns}, opened)
        return True

    def _fill_demographics(self, event: LedgerEvent, fact: Emr) -> bool:
        emr_id = event.attributes[0]
        emr = self.state.emrs.get(emr_id)
        if emr is None or emr_id not in self.state.without_demographics or emr["life"] == Life.ERASED:
            return False
        if emr["demographics_sha256"] != fact.sha256 or not _tells_of_demographics(fact):
            return False
        return self._put_demographics(event, fact)

    def _apply(self, event: LedgerEvent) -> Refusal | None:
        try:
            fact = event.fact
        except ValueMalformed as error:
            if not self._is_owners(event):
                return Refusal.OWNER_DID_NOT_ENDORSE
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

    def _is_owners(self, event: LedgerEvent) -> bool:
        """Whether the event is, as far as is known, what its subject's owner endorsed."""
        if event.object_type is ObjectType.ORGANIZATION:
            return event.attributes[0] in event.endorsers
        emr = self.state.emrs.get(event.attributes[0])
        return emr is None or emr["owner_msp"] in event.endorsers

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
        if not emr_follows(known, fact):
            return Refusal.BUILT_ON_UNENDORSED
        is_erased = known is not None and known["life"] == Life.ERASED
        if fact.owner == self.msp_id and _tells_of_demographics(fact) and not is_erased:
            self._put_demographics(event, fact)
        self._put_emr(rows.emr(event, fact, known))
        return None

    def _put_demographics(self, event: LedgerEvent, fact: Emr) -> bool:
        """Whether the content was there. An older revision's goes with it when it was not."""
        emr_id = event.attributes[0]
        opened = self.contents.demographics(event, fact)
        self.changes.demographics[emr_id] = {"emr_id": emr_id, **(opened or WITHOUT_DEMOGRAPHICS)}
        if opened is None:
            self.state.without_demographics.add(emr_id)
        else:
            self.state.without_demographics.discard(emr_id)
        return opened is not None

    def _note(self, event: LedgerEvent, fact: Note, emr: Mapping[str, Any]) -> Refusal | None:
        if emr["owner_msp"] != self.msp_id:
            return None
        emr_id, version = event.attributes[0], keys.number(event.attributes[1])
        if version > emr["version"]:
            return Refusal.BUILT_ON_UNENDORSED  # with what its transaction says of the EMR
        opened = None if emr["life"] == Life.ERASED else self.contents.note(event, fact)
        self._put_note(emr_id, version, rows.note(event, fact, emr, opened), opened)
        return None

    def _put_note(self, emr_id: str, version: int, row: Row, opened: OpenedNote | None) -> None:
        self.changes.notes[emr_id, version] = row
        if opened is None:
            self.state.placeholders[emr_id, version] = row
        else:
            self.state.placeholders.pop((emr_id, version), None)
            for position, concept in enumerate(opened.conditions):
                self.changes.conditions[emr_id, version, position] = rows.concept(emr_id, version, position, concept)
            for position, concept in enumerate(opened.medications):
                self.changes.medications[emr_id, version, position] = rows.concept(emr_id, version, position, concept)
            self._put_pseudonym(emr_id, opened.year)

    def _put_pseudonym(self, emr_id: str, year: int) -> None:
        if (emr_id, year) not in self.changes.pseudonyms:
            row = {"emr_id": emr_id, "period": year, "pseudonym": self.pseudonyms.of(emr_id, year)}
            self.changes.pseudonyms[emr_id, year] = row

    def _access(self, event: LedgerEvent, fact: Access, emr: Mapping[str, Any]) -> Refusal | None:
        emr_id, recipient_msp = event.attributes
        if not access_follows(self.state.accesses.get((emr_id, recipient_msp)), fact):
            return Refusal.BUILT_ON_UNENDORSED
        self.state.accesses[emr_id, recipient_msp] = fact
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


def _tells_of_demographics(fact: Emr) -> bool:
    return fact.event in (Event.EMR_CREATED, Event.DEMOGRAPHICS_UPDATED)


def _tells_of_erasure(event: LedgerEvent) -> bool:
    try:
        return isinstance(event.fact, LifeState) and event.fact.state is Life.ERASED
    except ValueMalformed:
        return False
