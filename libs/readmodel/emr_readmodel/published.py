"""Schema ``published``: numbers that may leave the house, as views over what the releases have added up to.

Nothing here derives from a row of ``care`` at the time of the query: see ``emr_readmodel.releases`` for what a release
adds and why no difference of these numbers stands for fewer than eleven patients.
"""

from __future__ import annotations

from collections.abc import Iterator

from emr_readmodel import views
from emr_readmodel.views import Column, View

SCHEMA = "published"

_NUMBER = Column("number", "sum(cell.number)::bigint", "How many; a sum of multiples of 5")

CUBE = View(
    SCHEMA,
    "cube",
    "The published numbers. A cell holds what was released under exactly these words; totals are sums of cells",
    (
        Column("measure", "cell.measure", "What is counted: visits, patients, conditions, medications or disclosures"),
        Column("year", "cell.year", "Calendar year"),
        Column("month", "cell.month", "Month of visits, 1 to 12; null when too few were left to tell"),
        Column("encounter_class", "cell.encounter_class", "Class of visits, such as AMB; null when too few"),
        Column("encounter_type", "cell.encounter_type", "Type of visits; null when too few"),
        Column("age_band", "cell.age_band", "Age of patients in bands of ten years; null when too few"),
        Column("sex", "cell.sex", "Administrative gender of patients; null when too few"),
        Column("system", "cell.system", "Code system of conditions and medications"),
        Column("code", "cell.code", "Code in that system"),
        Column("purpose", "cell.purpose", "HL7 PurposeOfUse code of disclosures; null when too few"),
        Column("display", "max(cell.display)", "The code or type in words"),
        _NUMBER,
    ),
    """hospital.release_cell as cell group by cell.measure, cell.year, cell.month, cell.encounter_class,
    cell.encounter_type, cell.age_band, cell.sex, cell.system, cell.code, cell.purpose""",
)


def _of(name: str, comment: str, dimensions: str, number: tuple[str, str]) -> View:
    """One measure of the cube; ``number`` is its column and comment."""
    columns = [Column("year", "cube.year", "Calendar year")]
    described = {column.name: column.comment for column in CUBE.columns}
    columns += [Column(each, f"cube.{each}", described[each]) for each in dimensions.split()]
    columns.append(Column(number[0], "cube.number", number[1]))
    return View(SCHEMA, name, comment, tuple(columns), f"{SCHEMA}.cube where cube.measure = '{name}'")


VISITS = _of("visits", "Visits", "month encounter_class encounter_type display", ("visits", "Number of visits"))
PATIENTS = _of(
    "patients",
    "Patients with a note in the year",
    "age_band sex",
    ("patients", "Number of patients, each counted once a year"),
)
CONDITIONS = _of(
    "conditions",
    "Patients with a condition in a note of the year",
    "system code display",
    ("patients", "Number of patients, each counted once a year and code"),
)
MEDICATIONS = _of(
    "medications",
    "Patients with a medication in a note of the year",
    "system code display",
    ("patients", "Number of patients, each counted once a year and code"),
)
DISCLOSURES = _of("disclosures", "Reads of shared snapshots", "purpose", ("disclosures", "Number of reads"))

AS_OF = View(
    SCHEMA,
    "as_of",
    "The last refresh of these numbers",
    (
        Column("at", "max(release.at)", "When it was; null before the first"),
        Column("block", "coalesce(max(release.as_of_block), -1)", "Block of the ledger that it stands for"),
    ),
    "hospital.release",
)

VIEWS = (CUBE, VISITS, PATIENTS, CONDITIONS, MEDICATIONS, DISCLOSURES, AS_OF)
"""In an order in which they can be created."""


def drop_statements() -> Iterator[str]:
    return views.drop_statements(VIEWS)


def create_statements() -> Iterator[str]:
    return views.create_statements(VIEWS)
