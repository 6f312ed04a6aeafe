"""Rows of schema ``care`` compared with those of a shadow, table by table: keys and columns are named, never values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from emr_readmodel import care
from sqlalchemy.ext.asyncio import AsyncConnection

COMPARED = (
    care.organization,
    care.emr,
    care.note,
    care.condition,
    care.medication,
    care.pseudonym,
    care.sharing,
    care.ending,
    care.disclosure,
    care.emr_position,
)
MOST_NAMED = 1000


@dataclass
class Comparison:
    """``differences`` name table, key, what is wrong (missing, surplus or different) and in which columns."""

    rows: int = 0
    found: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    moving: set[str] = field(default_factory=set)

    @property
    def result(self) -> dict[str, Any]:
        """What a verification says of it."""
        return {"rows": self.rows, "found": self.found, "differences": self.differences}

    def add(self, other: Comparison) -> None:
        self.rows += other.rows
        self.found += other.found
        self.differences += other.differences[: MOST_NAMED - len(self.differences)]
        self.moving |= other.moving


@dataclass(frozen=True)
class Among:
    """Which subjects' rows are compared: those from ``low`` on and before ``high``, or ``subjects``, or all."""

    subjects: Collection[str] | None = None
    low: str = ""
    high: str | None = None

    def where(self, table: sa.Table) -> str:
        """Of one side; by an index of the key where there is one."""
        subject = subject_of(table, table.name)
        bounds = [f"{subject} >= :low"] if self.low else []
        bounds += [f"{subject} < :high"] if self.high is not None else []
        bounds += [f"{subject} = any(:subjects)"] if self.subjects is not None else []
        return f"where {' and '.join(bounds)}" if bounds else ""

    @property
    def given(self) -> Mapping[str, Any]:
        subjects = None if self.subjects is None else list(self.subjects)
        given = {"low": self.low or None, "high": self.high, "subjects": subjects}
        return {name: value for name, value in given.items() if value is not None}


def subject_of(table: sa.Table, side: str) -> str:
    return f"'org:' || {side}.msp_id" if table is care.organization else f"{side}.emr_id"


async def apart(connection: AsyncConnection, shadow: str, among: Among, which: str = "true", **given: Any) -> set[str]:
    """Subjects of which one side has seen more than the other, of those ``which`` is true of: a condition about their
    ``emr_position`` here (a) and in the shadow (b), with what is ``given``.
    """
    where = among.where(care.emr_position)
    query = f"""
        select coalesce(a.emr_id, b.emr_id) from (select * from care.emr_position {where}) a
        full join (select * from {shadow}.emr_position {where}) b using (emr_id)
        where (a.block, a.tx, a.write) is distinct from (b.block, b.tx, b.write) and {which}
    """  # noqa: S608 - names of tables and columns
    return set(await connection.scalars(sa.text(query), {**among.given, **given}))


async def compare(connection: AsyncConnection, shadow: str, among: Among, moving: Collection[str]) -> Comparison:
    """All tables, in the connection's snapshot, but for the subjects that are ``moving``."""
    comparison = Comparison(moving=set(moving))
    for table in COMPARED:
        await _compare_table(connection, table, shadow, among, comparison)
    return comparison


async def _compare_table(
    connection: AsyncConnection, table: sa.Table, shadow: str, among: Among, comparison: Comparison
) -> None:
    """Rows as they are kept, byte by byte: two numbers in JSON may be equal and have other digits."""
    keys = [column.name for column in table.primary_key]
    compared = ", ".join(f'"{column.name}"' for column in table.columns if column.name != "late_block")
    key = ", ".join(f'\'{name}\', coalesce(to_jsonb(a."{name}"), to_jsonb(b."{name}"))' for name in keys)
    subject = f"coalesce({subject_of(table, 'a')}, {subject_of(table, 'b')})"
    where = among.where(table)
    sides = f"""(select {compared} from care.{table.name} {where}) a
        full join (select {compared} from {shadow}.{table.name} {where}) b
        using ({", ".join(f'"{name}"' for name in keys)})"""  # noqa: S608 - names of tables and columns
    given = {**among.given, "moving": list(comparison.moving)}
    absent = " and ".join(f'{{side}}."{name}" is null' for name in keys)
    query = f"""
        select jsonb_build_object({key}) as key,
            case when {absent.format(side="a")} then 'missing' when {absent.format(side="b")} then 'surplus'
                else 'different' end as wrong,
            array(select l.key from jsonb_each(to_jsonb(a)) l join jsonb_each(to_jsonb(b)) r using (key)
                where l.value::text is distinct from r.value::text) as columns,
            count(*) over () as found
        from {sides} where (a *= b) is not true and not ({subject} = any(:moving)) limit {MOST_NAMED}
    """  # noqa: S608
    rows = (await connection.execute(sa.text(query), given)).mappings().all()
    comparison.found += rows[0]["found"] if rows else 0
    for row in rows[: MOST_NAMED - len(comparison.differences)]:
        named = {"table": table.name, "key": row["key"], "wrong": row["wrong"]}
        comparison.differences.append({**named, "columns": sorted(row["columns"])})
    still = f"not ({subject_of(table, table.name)} = any(:moving))"
    counted = f"select count(*) from care.{table.name} {where} {'and' if where else 'where'} {still}"  # noqa: S608
    comparison.rows += (await connection.scalars(sa.text(counted), given)).one()
