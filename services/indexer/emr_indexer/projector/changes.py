"""What a batch of events does to the read model, ready to be written in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from emr_model.ledger.events import BlockMark, DeadLetter, LedgerEvent

from emr_indexer.refusals import Refusal

Row = Mapping[str, Any]
"""Column name to value, of the table that the field of Changes is named after."""


@dataclass(frozen=True)
class Refused:
    """A row of ``dead_letter``. ``partition`` is set when the partition stops there."""

    event_id: str
    code: str
    stage: str
    object_type: str
    emr_id: str | None = None
    transaction_id: str = ""
    partition: int | None = None

    @classmethod
    def by_relay(cls, letter: DeadLetter) -> Refused:
        return cls(letter.id, letter.code, "relay", letter.object_type, letter.emr_id, letter.transaction_id)

    @classmethod
    def by_projector(cls, event: LedgerEvent, code: Refusal, partition: int | None = None) -> Refused:
        return cls(
            event.id, code.value, "projector", event.object_type.value, event.emr_id, event.transaction_id, partition
        )


@dataclass(frozen=True)
class Ended:
    """Every sharing of the pair up to ``number`` that has not ended before ends."""

    emr_id: str
    recipient_msp: str
    number: int
    at: datetime
    by: str | None
    why: str | None
    value: dict[str, Any]
    transaction_id: str
    block: int
    late_block: int | None = None


@dataclass(frozen=True)
class Parked:
    """A row of ``parked``: from ``event_id`` on, the events of ``subject`` wait."""

    subject: str
    event_id: str
    code: str


@dataclass
class Changes:
    """Rows by primary key: a later event about the same row replaces the earlier one's.

    ``waiting`` are the events that are to be kept for their parked subjects, by id."""

    organizations: dict[str, Row] = field(default_factory=dict)
    emrs: dict[str, Row] = field(default_factory=dict)
    demographics: dict[str, Row] = field(default_factory=dict)
    notes: dict[tuple[str, int], Row] = field(default_factory=dict)
    conditions: dict[tuple[str, int, int], Row] = field(default_factory=dict)
    medications: dict[tuple[str, int, int], Row] = field(default_factory=dict)
    pseudonyms: dict[tuple[str, int], Row] = field(default_factory=dict)
    sharings: dict[tuple[str, str, int], Row] = field(default_factory=dict)
    endings: dict[tuple[str, str], Row] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    disclosures: dict[tuple[str, str], Row] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    refused: list[Refused] = field(default_factory=list)
    resolved: set[str] = field(default_factory=set)
    parked: dict[str, Parked] = field(default_factory=dict)
    waiting: dict[str, LedgerEvent] = field(default_factory=dict)
    positions: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    marks: dict[int, BlockMark] = field(default_factory=dict)

    def come_late(self, passed: int) -> None:
        """Streams and webhooks may have passed block ``passed``: what is of it or before is told with the next one."""

        def late(row: Row) -> Row:
            return {**row, "late_block": passed + 1} if row["block"] <= passed else row

        self.sharings = {key: late(row) for key, row in self.sharings.items()}
        self.disclosures = {key: late(row) for key, row in self.disclosures.items()}
        self.ended = [replace(one, late_block=passed + 1) if one.block <= passed else one for one in self.ended]

    def erase(self, emr_id: str) -> None:
        """Drops what this batch would have written of the EMR's content, and asks for the rest to be deleted."""
        self.erased.add(emr_id)
        self.demographics.pop(emr_id, None)
        self.conditions = {key: row for key, row in self.conditions.items() if key[0] != emr_id}
        self.medications = {key: row for key, row in self.medications.items() if key[0] != emr_id}
        self.pseudonyms = {key: row for key, row in self.pseudonyms.items() if key[0] != emr_id}
        for key, row in self.notes.items():
            if key[0] == emr_id:
                self.notes[key] = {**row, **WITHOUT_CONTENT}


WITHOUT_CONTENT: Row = {
    "kind": None,
    "amends": None,
    "period_start": None,
    "month": None,
    "encounter_class": None,
    "encounter_type": None,
    "encounter_type_display": None,
    "content": None,
    "words": None,
}
"""Columns of a note that come from its content, in a placeholder."""

WITHOUT_DEMOGRAPHICS: Row = dict.fromkeys(("demographics", "family_name", "given_names", "birth_date", "sex"))
"""The same of an EMR."""


class CannotProject(Exception):
    """A message to which the projection has no answer: its EMR waits, or its partition if the message is about none.

    The text is the code alone.
    """

    def __init__(self, code: Refusal) -> None:
        super().__init__(code.value)
        self.code = code
