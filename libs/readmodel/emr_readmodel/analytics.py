"""Schema ``analytics``: de-identified rows for the hospital's own analysts, as views over ``care``.

A patient is a pseudonym that stands for one calendar year, an age band of ten years (90 and more in one), a sex and a
month. No ids of the ledger, no dates, no names. Rows disappear with the erasure that deletes what they derive from.
"""

from __future__ import annotations

from collections.abc import Iterator

from emr_readmodel import views
from emr_readmodel.sharing import sharing_state_sql
from emr_readmodel.views import Column, View

SCHEMA = "analytics"

NOTED = """
    care.note as noted
    join care.emr using (emr_id)
    join care.pseudonym on pseudonym.emr_id = noted.emr_id and pseudonym.period = date_part('year', noted.month)
    cross join lateral (
        select date_part('year', age(coalesce(noted.period_start, noted.at) at time zone 'UTC', emr.birth_date))::int
    ) as aged (years)
"""
"""Notes whose content is known: only they have a month, and a pseudonym for its year."""

AGE_BAND = """
    case
        when aged.years >= 90 then '90+'
        when aged.years >= 0 then (aged.years / 10 * 10)::text || '-' || (aged.years / 10 * 10 + 9)::text
    end
"""
_PATIENT = (
    Column("pseudonym", "pseudonym.pseudonym", "The patient within the year; another one in the next year"),
    Column("year", "pseudonym.period", "Calendar year"),
    Column("month", "noted.month", "First day of the month"),
    Column("age_band", AGE_BAND, "Age at that time in bands of ten years, 90+ being one; null when unknown"),
    Column("sex", "emr.sex", "Administrative gender"),
)

_DISPLAY = "case when {0}.code is not null then {0}.display end"

VISIT = View(
    SCHEMA,
    "visit",
    "One row a visit",
    (
        *_PATIENT,
        Column("encounter_class", "noted.encounter_class", "Code of the encounter's class, such as AMB"),
        Column("encounter_type", "noted.encounter_type", "Code of the encounter's first type"),
        Column("encounter_type_display", "noted.encounter_type_display", "That type in words"),
    ),
    f"{NOTED} where noted.is_visit",
)

CONDITION = View(
    SCHEMA,
    "condition",
    "One row a condition in a note",
    (
        *_PATIENT,
        Column("system", "condition.system", "Code system; null for one that was written in words alone"),
        Column("code", "condition.code", "Code in that system; null for words alone"),
        Column(
            "display",
            _DISPLAY.format("condition"),
            "The code in words; words alone are not shown: they may name a person",
        ),
    ),
    f"{NOTED} join care.condition on condition.emr_id = noted.emr_id and condition.version = noted.version",
)

MEDICATION = View(
    SCHEMA,
    "medication",
    "One row a medication in a note",
    (
        *_PATIENT,
        Column("system", "medication.system", "Code system; null for one that was written in words alone"),
        Column("code", "medication.code", "Code in that system; null for words alone"),
        Column(
            "display",
            _DISPLAY.format("medication"),
            "The code in words; words alone are not shown: they may name a person",
        ),
    ),
    f"{NOTED} join care.medication on medication.emr_id = noted.emr_id and medication.version = noted.version",
)

VISITS_BY_YEAR_AND_TYPE = View(
    SCHEMA,
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
    SCHEMA,
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

_HOURS = "round(extract(epoch from {later} - {earlier})::numeric / 3600, 1)"
_BEGAN = "least(sharing.requested_at, sharing.owner_approved_at, sharing.patient_approved_at)"

SHARING_FUNNEL = View(
    SCHEMA,
    "sharing_funnel",
    "One row a sharing in which this hospital is owner or recipient: how far it came, and how long that took",
    (
        Column("owner_msp", "sharing.owner_msp", "The hospital that owns the EMR"),
        Column("recipient_msp", "sharing.recipient_msp", "The hospital it is shared with"),
        Column(
            "month",
            f"date_trunc('month', {_BEGAN} at time zone 'UTC')::date",
            "First day of the month of the request, or of the first approval when nobody asked",
        ),
        Column("purpose", "sharing.request_purpose", "HL7 PurposeOfUse code of the request; null when nobody asked"),
        Column("state", sharing_state_sql(), "As in sharings, at the time of the query"),
        Column("is_requested", "sharing.requested_at is not null", "Whether the recipient asked"),
        Column("is_owner_approved", "sharing.owner_approved_at is not null", "Whether the owner approved"),
        Column("is_patient_approved", "sharing.patient_approved_at is not null", "Whether the patient approved"),
        Column("is_shared", "sharing.snapshot_at is not null", "Whether a snapshot was shared"),
        Column("is_read", "reads.number > 0", "Whether the recipient read it"),
        Column("reads", "reads.number", "How often the recipient read it"),
        Column("ended_why", "sharing.ended_why", "declined, withdrawn, removed-by-patient or expired; null: not ended"),
        Column(
            "hours_to_owner_approval",
            _HOURS.format(later="sharing.owner_approved_at", earlier=_BEGAN),
            "Hours from the sharing's beginning to the owner's last approval",
        ),
        Column(
            "hours_to_patient_approval",
            _HOURS.format(later="sharing.patient_approved_at", earlier=_BEGAN),
            "Hours from the sharing's beginning to the patient's last approval",
        ),
        Column(
            "hours_to_snapshot",
            _HOURS.format(later="sharing.snapshot_at", earlier=_BEGAN),
            "Hours from the sharing's beginning to its last snapshot",
        ),
        Column(
            "hours_to_first_read",
            _HOURS.format(later="reads.first_at", earlier=_BEGAN),
            "Hours from the sharing's beginning to the recipient's first read",
        ),
        Column(
            "hours_to_end",
            _HOURS.format(later="sharing.ended_at", earlier=_BEGAN),
            "Hours from the sharing's beginning to its ending",
        ),
    ),
    """care.sharing cross join lateral (
        select count(*), min(disclosure.at) from care.disclosure
        where disclosure.emr_id = sharing.emr_id and disclosure.recipient_msp = sharing.recipient_msp
          and disclosure.number = sharing.number
    ) as reads (number, first_at)""",
)

DISCLOSURES = View(
    SCHEMA,
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
    SCHEMA,
    "as_of",
    "Up to which block of the ledger every row of this schema is",
    (
        Column("block", "coalesce(min(position.block), -1)", "Block number; -1 before the first"),
        Column("at", "min(position.marked_at)", "Time of that block on the ledger"),
    ),
    "care.position",
)

VIEWS = (VISIT, CONDITION, MEDICATION, VISITS_BY_YEAR_AND_TYPE, SHARINGS, SHARING_FUNNEL, DISCLOSURES, AS_OF)
"""In an order in which they can be created."""


def drop_statements() -> Iterator[str]:
    return views.drop_statements(VIEWS)


def create_statements() -> Iterator[str]:
    return views.create_statements(VIEWS)
