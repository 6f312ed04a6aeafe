"""Which resources of a bundle belong together: the four rules of docs/clinical-notes.md, with nothing validated yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from emr_model.clinical.bundle import Bundle, Entry, reference, references, references_in

FINANCIAL = frozenset({"Claim", "ExplanationOfBenefit", "Coverage"})
"""Never part of a note, even when their ``encounter`` says so."""

COPIED = frozenset({"Practitioner", "Organization"})
"""Copied into every note that refers to them."""

ADMINISTRATIVE = (
    FINANCIAL
    | COPIED
    | {
        "Account",
        "Appointment",
        "AppointmentResponse",
        "AuditEvent",
        "ChargeItem",
        "ClaimResponse",
        "CoverageEligibilityRequest",
    }
    | {"CoverageEligibilityResponse", "Endpoint", "EnrollmentRequest", "EnrollmentResponse", "HealthcareService"}
    | {"InsurancePlan", "Invoice", "Location", "OperationOutcome", "PaymentNotice", "PaymentReconciliation", "Person"}
    | {"PractitionerRole", "Provenance", "Schedule", "Slot", "Subscription"}
)
"""Without an Encounter in the bundle they are not clinical, so no part of the background."""

CLINICAL_REFERENCES = ("result", "addresses")


class IgnoredBecause(Enum):
    """Why a resource is in no note."""

    FINANCIAL = "financial"
    ADMINISTRATIVE = "administrative"
    ENCOUNTER_NOT_FINISHED = "encounter-not-finished"


@dataclass(frozen=True, repr=False)
class Ignored:
    """A resource that is in no note, and why."""

    entry: Entry
    reason: IgnoredBecause


@dataclass(repr=False)
class Group:
    """What would become one note. ``encounter`` is None for the background."""

    encounter: Entry | None
    members: list[Entry] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """The Encounter, if there is one, and the members."""
        return self.members if self.encounter is None else [self.encounter, *self.members]

    @property
    def positions(self) -> frozenset[int]:
        return frozenset(entry.position for entry in self.entries)


@dataclass(frozen=True, repr=False)
class Grouping:
    """Every entry but the Patient's is in a group or ignored; Goals, Practitioners, Organizations may be in several."""

    encounters: tuple[Group, ...]
    background: Group
    ignored: tuple[Ignored, ...]


def group(bundle: Bundle) -> Grouping:
    """Groups the entries of a bundle by Encounter, in the bundle's order."""
    groups = {
        entry.position: Group(entry)
        for entry in bundle.of_type("Encounter")
        if entry.resource.get("status") == "finished"
    }
    ignored: list[Ignored] = []
    unplaced = _place_by_encounter(bundle, groups, ignored)
    unplaced = _place_by_clinical_references(bundle, groups.values(), unplaced)
    unplaced = _place_goals(bundle, groups.values(), unplaced)
    background = Group(None)
    for entry in unplaced:
        if entry.resource_type in ADMINISTRATIVE:
            ignored.append(Ignored(entry, IgnoredBecause.ADMINISTRATIVE))
        else:
            background.members.append(entry)
    used = {position for each in [*groups.values(), background] for position in _copy_referenced(bundle, each)}
    still_ignored = sorted(
        (item for item in ignored if item.entry.position not in used), key=lambda item: item.entry.position
    )
    return Grouping(tuple(groups.values()), background, tuple(still_ignored))


def _place_by_encounter(bundle: Bundle, groups: dict[int, Group], ignored: list[Ignored]) -> list[Entry]:
    unplaced = []
    for entry in bundle.entries:
        encounter = entry if entry.resource_type == "Encounter" else bundle.resolve(_encounter_reference(entry))
        if entry.resource_type in FINANCIAL:
            ignored.append(Ignored(entry, IgnoredBecause.FINANCIAL))
        elif entry.resource_type == "Patient" or entry.position in groups:
            continue
        elif encounter is not None and encounter.position in groups:
            groups[encounter.position].members.append(entry)
        elif encounter is not None and encounter.resource_type == "Encounter":
            ignored.append(Ignored(entry, IgnoredBecause.ENCOUNTER_NOT_FINISHED))
        else:
            unplaced.append(entry)
    return unplaced


def _encounter_reference(entry: Entry) -> str | None:
    """The Encounter of a resource: ``encounter``, or ``context``, as R4 calls it in some resources."""
    context = entry.resource.get("context")
    in_context = references(context.get("encounter")) if isinstance(context, dict) else ()
    return (
        reference(entry.resource.get("encounter"))
        or reference(context)
        or (in_context[0] if len(in_context) == 1 else None)
    )


def _place_by_clinical_references(bundle: Bundle, groups: Iterable[Group], unplaced: list[Entry]) -> list[Entry]:
    whole = [(each, each.positions) for each in groups]
    left = []
    for entry in unplaced:
        targets = {
            _position(bundle, text) for name in CLINICAL_REFERENCES for text in references(entry.resource.get(name))
        }
        home = next((each for each, positions in whole if targets and targets <= positions), None)
        if home is None:
            left.append(entry)
        else:
            home.members.append(entry)
    return left


def _place_goals(bundle: Bundle, groups: Iterable[Group], unplaced: list[Entry]) -> list[Entry]:
    waiting = {entry.position: entry for entry in unplaced if entry.resource_type == "Goal"}
    placed: set[int] = set()
    for each in groups:
        plans = [entry for entry in each.members if entry.resource_type == "CarePlan"]
        named = {_position(bundle, text) for plan in plans for text in references(plan.resource.get("goal"))}
        for position in sorted(named & waiting.keys()):
            each.members.append(waiting[position])
            placed.add(position)
    return [entry for entry in unplaced if entry.position not in placed]


def _position(bundle: Bundle, text: str) -> int:
    """The position of the entry that is meant; -1, which is no entry's, for one that is not in the bundle."""
    entry = bundle.resolve(text)
    return -1 if entry is None else entry.position


def _copy_referenced(bundle: Bundle, each: Group) -> set[int]:
    present = each.positions
    copies: dict[int, Entry] = {}
    for entry in each.entries:
        for text in references_in(entry.resource):
            target = bundle.resolve(text)
            if target is not None and target.resource_type in COPIED and target.position not in present:
                copies[target.position] = target
    each.members.extend(copies.values())
    return set(copies)
