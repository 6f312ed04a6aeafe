"""Every query of the book runs as the role that its chapter names, and answers something; so do exports."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import pytest
from emr_deploy.export import Format, export
from emr_readmodel import analytics, care, engine, published
from emr_readmodel.releases import refresh
from emr_readmodel.roles import provision
from sqlalchemy.engine import URL
from support.care_rows import OWNER, add, at_block, coded, disclosure, emr, note, pseudonym, sharing
from support.postgres import PostgresServer

BOOK = (Path(__file__).parents[3] / "docs" / "query-book.md").read_text()
CHAPTERS = {"analyst": "# As an analyst", "public": "# As anybody"}
PATIENTS = 60
MONTHS = (date(2024, 11, 1), date(2025, 2, 1), date(2025, 3, 1))
START = datetime(2025, 5, 1, tzinfo=UTC)
FORMULA = "=HYPERLINK(1)"


def queries(role: str) -> list[str]:
    chapter = BOOK.split(CHAPTERS[role], 1)[1]
    return re.findall(r"```sql\n(.*?)```", re.split(r"\n# ", chapter, maxsplit=1)[0], re.DOTALL)


@pytest.fixture(scope="module")
async def urls(server: PostgresServer) -> AsyncIterator[dict[str, URL]]:
    urls = await provision(server.url(), "book", service_password="x", analyst_password="x", public_password="x")
    pool = engine.create(urls["service"], 2)
    async with pool.begin() as connection:
        await at_block(connection, 9)
        for table, rows in _hospital().items():
            await add(connection, table, rows)
    await refresh(pool, OWNER)
    await pool.dispose()
    yield urls


def _hospital() -> dict[Any, list[dict[str, Any]]]:
    ids = [f"{number:032x}" for number in range(PATIENTS)]
    visits = [(each, version, month) for each in ids for version, month in enumerate(MONTHS, 1)]
    return {
        care.emr: [emr(each, sex=("female", "male")[number % 2]) for number, each in enumerate(ids)],
        care.note: [note(*visit) for visit in visits],
        care.pseudonym: [pseudonym(each, year) for each in ids for year in (2024, 2025)],
        care.condition: [
            *(coded(each, 2, 0, "38341003", display="Hypertensive disorder") for each in ids[:40]),
            *(coded(each, 2, 1, "195662009", display=FORMULA) for each in ids[:30]),
            coded(ids[0], 2, 2, None, display="Mrs Lovelace's cough"),
        ],
        care.medication: [coded(each, 3, 0, "314076", display="lisinopril 10 MG") for each in ids[:35]],
        care.sharing: [
            sharing(
                each,
                requested_at=START,
                request_purpose="TREAT",
                owner_approved_at=START + timedelta(hours=2),
                owner_approved_version=2,
                patient_approved_at=START + timedelta(hours=number),
                patient_approved_version=2,
                snapshot_at=START + timedelta(hours=number, minutes=6),
                snapshot_version=2,
                ended_at=START + timedelta(hours=90) if number < 5 else None,
                ended_why="withdrawn" if number < 5 else None,
            )
            for number, each in enumerate(ids[:20], 3)
        ],
        care.disclosure: [
            disclosure(each, number, START + timedelta(hours=30)) for number, each in enumerate(ids[:20])
        ],
    }


def _url(urls: dict[str, URL], role: str) -> str:
    return urls[role].render_as_string(hide_password=False)


@pytest.mark.parametrize(("role", "query"), [(role, query) for role in CHAPTERS for query in queries(role)])
async def test_a_query_of_the_book_answers(urls: dict[str, URL], role: str, query: str) -> None:
    connection = await asyncpg.connect(_url(urls, role))
    try:
        found = await connection.fetch(query)
    finally:
        await connection.close()
    assert found
    assert all(any(value is not None for value in row.values()) for row in found)


def test_the_book_has_the_questions() -> None:
    assert len(queries("analyst")) >= 15
    assert len(queries("public")) >= 6


async def test_the_funnel_tells_how_long_each_step_took(urls: dict[str, URL]) -> None:
    connection = await asyncpg.connect(_url(urls, "analyst"))
    try:
        query = "select * from sharing_funnel order by hours_to_snapshot limit 1"
        found = dict((await connection.fetch(query))[0])
    finally:
        await connection.close()
    hours = {name: float(value) for name, value in found.items() if name.startswith("hours_")}
    assert hours == {
        "hours_to_owner_approval": 2.0,
        "hours_to_patient_approval": 3.0,
        "hours_to_snapshot": 3.1,
        "hours_to_first_read": 30.0,
        "hours_to_end": 90.0,
    }
    assert (found["month"], found["state"], found["reads"]) == (date(2025, 5, 1), "ended", 1)


async def test_the_duckdb_example_runs_on_exported_files(urls: dict[str, URL], tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    written = await export(_url(urls, "analyst"), analytics.VIEWS, tmp_path / "exports", Format.PARQUET)
    assert {each.view: each.rows for each in written} == {
        "visit": 180,
        "condition": 71,
        "medication": 35,
        "visits_by_year_and_type": 2,
        "sharings": 2,
        "sharing_funnel": 20,
        "disclosures": 1,
        "as_of": 1,
    }
    (example,) = re.findall(r"```python\n(.*?)```", BOOK, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2024", "40-49", "60", "60", "0", "2025", "40-49", "120", "60", "40"]


async def test_parquet_keeps_types_and_nulls(urls: dict[str, URL], tmp_path: Path) -> None:
    await export(_url(urls, "analyst"), [analytics.CONDITION, analytics.SHARING_FUNNEL], tmp_path, Format.PARQUET)
    with duckdb.connect() as database:
        described = {row[0]: row[1] for row in database.sql(f"describe from '{tmp_path}/condition.parquet'").fetchall()}
        words = database.sql(f"select distinct display from '{tmp_path}/condition.parquet' order by all").fetchall()
        ended = database.sql(f"select count(hours_to_end) from '{tmp_path}/sharing_funnel.parquet'").fetchall()
    assert (described["month"], described["year"], described["code"]) == ("DATE", "INTEGER", "VARCHAR")
    assert words == [(FORMULA,), ("Hypertensive disorder",), (None,)]
    assert ended == [(2,)]


async def test_a_csv_file_holds_no_formula_and_is_the_callers_alone(urls: dict[str, URL], tmp_path: Path) -> None:
    await export(_url(urls, "analyst"), [analytics.CONDITION], tmp_path, Format.CSV)
    path = tmp_path / "condition.csv"
    with path.open(newline="") as file:
        displays = {row["display"] for row in csv.DictReader(file)}
    assert displays == {"'" + FORMULA, "Hypertensive disorder", ""}
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in tmp_path.iterdir()] == ["condition.csv"]


async def test_published_numbers_can_be_exported(urls: dict[str, URL], tmp_path: Path) -> None:
    written = await export(_url(urls, "public"), published.VIEWS, tmp_path, Format.CSV)
    assert all(each.rows for each in written if each.view in ("cube", "visits", "patients", "disclosures"))
    assert "Lovelace" not in "".join(each.path.read_text() for each in written)
