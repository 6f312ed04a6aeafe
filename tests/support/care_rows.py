"""Rows of schema ``care`` as the projector writes them, for tests that begin there."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from emr_readmodel import care
from sqlalchemy.ext.asyncio import AsyncConnection

OWNER = "HospitalA"
LONG_AGO = datetime(2002, 1, 1, tzinfo=UTC)


def emr(emr_id: str, **more: Any) -> dict[str, Any]:
    return {
        "emr_id": emr_id,
        "owner_msp": OWNER,
        "patient_id": f"p{emr_id}",
        "patient_key": "0" * 64,
        "version": 1,
        "visits": 1,
        "life": "active",
        "demographics_revision": 1,
        "demographics_commitment": "0" * 64,
        "demographics_sha256": "0" * 64,
        "birth_date": date(1980, 2, 3),
        "sex": "female",
        "created_at": LONG_AGO,
        "transaction_id": "0" * 64,
        "block": 1,
        **more,
    }


def note(emr_id: str, version: int, month: date, **more: Any) -> dict[str, Any]:
    return {
        "emr_id": emr_id,
        "version": version,
        "note_id": f"{emr_id}-{version}",
        "is_visit": True,
        "author": "d1",
        "at": LONG_AGO,
        "commitment": "0" * 64,
        "sha256": "0" * 64,
        "kind": "encounter",
        "period_start": datetime(month.year, month.month, 2, 9, tzinfo=UTC),
        "month": month,
        "encounter_class": "AMB",
        "encounter_type": "185345009",
        "encounter_type_display": "Encounter for symptom",
        "content": "{}",
        "transaction_id": "0" * 64,
        "block": 1,
        **more,
    }


def coded(emr_id: str, version: int, position: int, code: str | None, **more: Any) -> dict[str, Any]:
    row = {"emr_id": emr_id, "version": version, "position": position, "system": "http://snomed.info/sct", "code": code}
    return {**row, "display": f"The code {code}", **more}


def pseudonym(emr_id: str, year: int) -> dict[str, Any]:
    return {"emr_id": emr_id, "period": year, "pseudonym": f"{emr_id}|{year}"}


def disclosure(emr_id: str, number: int, at: datetime = LONG_AGO, **more: Any) -> dict[str, Any]:
    return {
        "emr_id": emr_id,
        "transaction_id": f"{number:064}",
        "owner_msp": OWNER,
        "patient_id": f"p{emr_id}",
        "recipient_msp": "HospitalB",
        "number": 1,
        "version": 1,
        "reader": "d2",
        "purpose": "TREAT",
        "at": at,
        "block": 1,
        **more,
    }


async def add(connection: AsyncConnection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(sa.insert(table), rows)


async def at_block(connection: AsyncConnection, block: int) -> None:
    """As if every partition had projected this block."""
    await connection.execute(sa.delete(care.position))
    await add(connection, care.position, [{"partition": partition, "block": block} for partition in range(2)])


async def empty(connection: AsyncConnection, *tables: sa.Table) -> None:
    names = ", ".join(str(table) for table in tables)
    await connection.execute(sa.text(f"truncate {names} cascade"))


def sharing(emr_id: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "emr_id": emr_id,
        "recipient_msp": "HospitalB",
        "number": number,
        "owner_msp": OWNER,
        "patient_id": f"p{emr_id}",
        "transaction_id": "0" * 64,
        "block": 1,
        **more,
    }
