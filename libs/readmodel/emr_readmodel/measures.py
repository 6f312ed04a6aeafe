"""What the published numbers count: for each measure its facts, over ``care``, and the words it tells of them."""

from __future__ import annotations

from dataclasses import dataclass

from emr_readmodel.analytics import AGE_BAND, NOTED

UNKNOWN = "'unknown'"


@dataclass(frozen=True)
class Measure:
    """``occurrences`` selects emr_id, ref, place (what comes first), noted_at, period_end, year, display and the
    dimensions; occurrences of one EMR, year and ``unit`` are one fact, told of as the first of them.

    ``dimensions`` are given up from the last one on for facts that stay too few, if ``gives_up``. ``is_of_patients``:
    its facts are patients of the measure ``patients``, so that the patients who are not among them count as a cell too.
    """

    name: str
    unit: tuple[str, ...]
    dimensions: tuple[str, ...]
    occurrences: str
    gives_up: bool = True
    is_of_patients: bool = False


_NOTE = "noted.emr_id, noted.version as place, noted.at as noted_at, pseudonym.period as year"
_YEAR_END = "make_date(pseudonym.period + 1, 1, 1) as period_end"

VISITS = Measure(
    "visits",
    ("ref",),
    ("month", "encounter_class", "encounter_type"),
    f"""
    select {_NOTE}, noted.version::text as ref, (noted.month + interval '1 month')::date as period_end,
        date_part('month', noted.month)::int as month,
        coalesce(noted.encounter_class, {UNKNOWN}) as encounter_class,
        coalesce(noted.encounter_type, {UNKNOWN}) as encounter_type,
        case when noted.encounter_type is not null then noted.encounter_type_display end as display
    from {NOTED} where noted.is_visit
    """,
)

PATIENTS = Measure(
    "patients",
    (),
    ("age_band", "sex"),
    f"""
    select {_NOTE}, noted.version::text as ref, {_YEAR_END},
        coalesce({AGE_BAND}, {UNKNOWN}) as age_band, coalesce(emr.sex, {UNKNOWN}) as sex, null::text as display
    from {NOTED}
    """,
)


def _coded(name: str, table: str) -> Measure:
    return Measure(
        name,
        ("system", "code"),
        ("system", "code"),
        f"""
        select {_NOTE}, noted.version || '/' || coded.position as ref, {_YEAR_END},
            coalesce(coded.system, {UNKNOWN}) as system, coded.code, coded.display
        from {NOTED} join care.{table} as coded on coded.emr_id = noted.emr_id and coded.version = noted.version
        where coded.code is not null
        """,
        gives_up=False,
        is_of_patients=True,
    )


CONDITIONS = _coded("conditions", "condition")
MEDICATIONS = _coded("medications", "medication")

DISCLOSURES = Measure(
    "disclosures",
    ("ref",),
    ("purpose",),
    """
    select disclosure.emr_id, disclosure.block as place, disclosure.at as noted_at,
        date_part('year', disclosure.at at time zone 'UTC')::int as year, disclosure.transaction_id as ref,
        make_date(date_part('year', disclosure.at at time zone 'UTC')::int + 1, 1, 1) as period_end,
        disclosure.purpose, null::text as display
    from care.disclosure join care.emr using (emr_id)
    where disclosure.owner_msp = :owner_msp and emr.life <> 'erased'
    """,
)
"""Reads of this hospital's own EMRs: the readers publish theirs, and two hospitals' numbers must not overlap."""

MEASURES = (VISITS, PATIENTS, CONDITIONS, MEDICATIONS, DISCLOSURES)
"""In this order: those of patients look at what ``patients`` has published."""
