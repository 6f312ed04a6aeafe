"""Schema ``analytics``: de-identified rows for the hospital's own analysts, as views over ``care``.

A patient is a pseudonym that stands for one calendar year, an age band of ten years (90 and more in one), a sex and a
month. No ids of the ledger, no dates, no names. Rows disappear with the erasure that deletes what they derive from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emr_readmodel.sharing import sharing_state_sql

SCHEMA = "analytics"


@dataclass(frozen=True)
class Column:
    name: str
    expression: str
    comment: str


@dataclass(frozen=True)
class View:
    """A view of schema ``analytics``. ``source`` is what follows FROM."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    source: str

    def statements(self) -> Iterator[str]:
        """SQL that creates the view with its comments; it must not exist."""
        name = f"{SCHEMA}.{self.name}"
        selected = ", ".join(f"{column.expression} as {column.name}" for column in self.columns)
        yield " ".join(["create view", name, "with (security_barrier) as select", selected, "from", self.source])
        yield f"comment on view {name} is {_literal(self.comment)}"
        for column in self.columns:
            yield f"comment on column {name}.{column.name} is {_literal(column.comment)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_NOTED = """
    care.note as noted
    join care.emr using (emr_id)
    join care.pseudonym on pseudonym.emr_id = noted.emr_id and pseudonym.period = date_part('year', noted.month)
    cross join lateral (
        select date_part('year', age(coalesce(noted.period_start, noted.at) at time zone 'UTC', emr.birth_date))::int
    ) as aged (years)
"""
"""Notes whose content is known: only they have a month, and a pseudonym for its year."""

_AGE_BAND = """
    case
        when aged.years >= 90 then '90+'
        when aged.years >= 0 then (aged.years / 10 * 10)::text || '-' || (aged.years / 10 * 10 + 9)::text
    end
"""
_PATIENT = (
    Column("pseudonym", "pseudonym.pseudonym", "The patient within the year; another one in the next year"),
    Column("year", "pseudonym.period", "Calendar year"),
    Column("month", "noted.month", "First day of the month"),
    Column("age_band", _AGE_BAND, "Age at that time in bands of ten years, 90+ being one; null when unknown"),
    Column("sex", "emr.sex", "Administrative gender"),
)

VISIT = View(
    "visit",
    "One row a visit",
    (
        *_PATIENT,
        Column("encounter_class", "noted.encounter_class", "Code of the encounter's class, such as AMB"),
        Column("encounter_type", "noted.encounter_type", "Code of the encounter's first type"),
        Column("encounter_type_display", "noted.encounter_type_display", "That type in words"),
    ),
    f"{_NOTED} where noted.is_visit",
)

CONDITION = View(
    "condition",
    "One row a coded condition in a note",
    (
        *_PATIENT,
        Column("system", "condition.system", "Code system"),
        Column("code", "condition.code", "Code in that system"),
        Column("display", "condition.display", "The code in words"),
    ),
    f"{_NOTED} join care.condition on condition.emr_id = noted.emr_id and condition.version = noted.version",
)

MEDICATION = View(
    "medication",
    "One row a coded medication in a note",
    (
        *_PATIENT,
        Column("system", "medication.system", "Code system"),
        Column("code", "medication.code", "Code in that system"),
        Column("display", "medication.display", "The code in words"),
    ),
    f"{_NOTED} join care.medication on medication.emr_id = noted.emr_id and medication.version = noted.version",
)

VISITS_BY_YEAR_AND_TYPE = View(
    "visits_by_year_and_type",
    "Number of visits and of patients per year and type of encounter",
    (
        Column("year", "visit.year", "Calendar year"),
        Column("encounter_type", "visit.encounter_type", "Code of the encounter's first type"),
        Column("encounter_type_display", "min(visit.encounter_type_display)", "That type in words"),
        Column("visits", "count(*)", "Number of visits"),
        Column("patients", "count(distinct visit.pseudonym)", "Number of different patients in that year"),
    ),
    f"{SCHEMA}.visit group by visit.year, visit.encounter_type",
)

SHARINGS = View(
    "sharings",
    "Number of sharings per pair of hospitals and state, at the time of the query",
    (
        Column("owner_msp", "sharing.owner_msp", "The hospital that owns the EMRs"),
        Column("recipient_msp", "sharing.recipient_msp", "The hospital they are shared with"),
        Column(
            "state",
            sharing_state_sql(),
            "requested, awaiting_owner, awaiting_patient, approved, shared, ended or expired",
        ),
        Column("sharings", "count(*)", "Number of sharings"),
    ),
    "care.sharing group by 1, 2, 3",
)

DISCLOSURES = View(
    "disclosures",
    "Number of reads of shared snapshots per month, pair of hospitals and purpose",
    (
        Column("month", "date_trunc('month', disclosure.at at time zone 'UTC')::date", "First day of the month"),
        Column("owner_msp", "disclosure.owner_msp", "The hospital that owns the EMRs"),
        Column("recipient_msp", "disclosure.recipient_msp", "The hospital that read"),
        Column("purpose", "disclosure.purpose", "HL7 PurposeOfUse code"),
        Column("disclosures", "count(*)", "Number of reads"),
        Column("emrs", "count(distinct disclosure.emr_id)", "Number of different EMRs"),
    ),
    "care.disclosure group by 1, 2, 3, 4",
)

AS_OF = View(
    "as_of",
    "Up to which block of the ledger every row of this schema is",
    (
        Column("block", "coalesce(min(position.block), -1)", "Block number; -1 before the first"),
        Column("at", "min(position.marked_at)", "Time of that block on the ledger"),
    ),
    "care.position",
)

VIEWS = (VISIT, CONDITION, MEDICATION, VISITS_BY_YEAR_AND_TYPE, SHARINGS, DISCLOSURES, AS_OF)
"""In an order in which they can be created."""


def drop_statements() -> Iterator[str]:
    for view in reversed(VIEWS):
        yield f"drop view if exists {SCHEMA}.{view.name}"


def create_statements() -> Iterator[str]:
    for view in VIEWS:
        yield from view.statements()
