"""Searches over schema ``care``: own EMRs that meet every criterion, page by page.

A page is found by walking an index in the order in which it is shown, from where the page before ended, so that it
costs what is on it and not what there is (docs/plans.md shows the plans). Only words are looked up as a whole first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import Enum
from typing import Any, NamedTuple

import sqlalchemy as sa
from emr_common import cursors
from emr_common.parking import Parked, has_owner, parked_among
from emr_common.positions import as_of_block
from emr_model.ledger.values import Life
from emr_readmodel.care import condition, emr, family_name_key, given_names_key, medication, note, parked
from emr_readmodel.columns import Timestamp
from emr_readmodel.hospital import patient_identifier
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_records.schemas import SearchIn

HIT_COLUMNS = ("emr_id", "patient_id", "family_name", "given_names", "birth_date", "sex", "life", "version", "visits")


class Order(Enum):
    """In what order hits are shown. It follows from the criteria."""

    FAMILY_NAME = "family"
    GIVEN_NAME = "given"
    LAST_VISIT = "visit"
    EMR_ID = "emr"

    @classmethod
    def of(cls, body: SearchIn) -> Order:
        if body.family_name is not None:
            return cls.FAMILY_NAME
        if body.given_name is not None:
            return cls.GIVEN_NAME
        return cls.LAST_VISIT if not body.criteria.keys() - {"visited_from", "visited_to"} else cls.EMR_ID


_PLANNED = sa.text(
    "select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_bitmapscan', :bitmaps, true)"
)


async def plan_for(connection: AsyncConnection, body: SearchIn) -> None:
    """The transaction's searches are planned by their values: a month and all years want other plans, but after five
    searches Postgres would take one for all. And in an index's order, however few hits Postgres expects and would
    rather sort: only words have no such index.
    """
    await connection.execute(_PLANNED, {"bitmaps": "off" if body.text is None else "on"})


@dataclass(frozen=True, repr=False)
class Hits:
    """``next`` is the cursor of the page after this one, None at the end. ``parked`` are EMRs that the search may be
    about: their rows are as they were before what waits, or not there.
    """

    rows: Sequence[dict[str, Any]]
    as_of_block: int | None
    next: str | None
    parked: Parked


class SearchStore:
    def __init__(self, engine: AsyncEngine, msp_id: str) -> None:
        self._engine = engine
        self._msp_id = msp_id

    async def search(self, body: SearchIn, identifier_hmac: bytes | None = None) -> Hits:
        """``identifier_hmac`` stands for the body's identifier. Raises Problem MALFORMED_REQUEST for a cursor that is
        none of ours, or another search's.
        """
        query = statement(body, self._msp_id, identifier_hmac)
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await plan_for(connection, body)
            block = await as_of_block(connection)
            rows = [dict(row) for row in (await connection.execute(query)).mappings()]
            shown = [{name: row[name] for name in HIT_COLUMNS} for row in rows[: body.limit]]
            may_be_among = self._may_be_about(body, identifier_hmac)
            parked_ones = await parked_among(connection, may_be_among, [row["emr_id"] for row in shown])
        more = len(rows) > body.limit
        return Hits(shown, block, _cursor(Order.of(body), rows[body.limit - 1]) if more else None, parked_ones)

    def _may_be_about(self, body: SearchIn, identifier_hmac: bytes | None) -> sa.ColumnElement[bool]:
        """What waits may change anything of a parked EMR, its demographics too, but not whose identifier it is."""
        is_alive = sa.or_(emr.c.emr_id.is_(None), emr.c.life != Life.ERASED.value)
        is_among = sa.and_(has_owner(self._msp_id), is_alive)
        return is_among if body.identifier is None else sa.and_(is_among, parked.c.subject == _known(identifier_hmac))


def statement(body: SearchIn, msp_id: str, identifier_hmac: bytes | None = None) -> sa.Select[Any]:
    """The page's rows and one more, each with its ``place`` in the order."""
    order, walked = Order.of(body), _walked(body)
    source, keys = _source(order, body, walked)
    query = sa.select(*(emr.c[name] for name in HIT_COLUMNS), keys[0].label("place")).select_from(source)
    query = query.where(emr.c.owner_msp == msp_id, emr.c.life != Life.ERASED.value, *about_the_person(body))
    for each in _of_notes(body):
        if walked is None or each.table is not walked.table:
            query = query.where(sa.exists().where(each.table.c.emr_id == emr.c.emr_id, each.is_had))
    if body.visited_from is not None or body.visited_to is not None:
        query = query.where(*_visited(order, body))
    if body.identifier is not None:
        query = query.where(emr.c.emr_id == _known(identifier_hmac))
    if body.after is not None and walked is None:
        query = query.where(_follows(order, keys, _position(order, body.after)))
    if order is Order.LAST_VISIT:
        keys = tuple(key.desc() for key in keys)
    return query.order_by(*keys).limit(body.limit + 1)


def _known(identifier_hmac: bytes | None) -> sa.ScalarSelect[str]:
    """The EMR that admission made for an identifier, whatever the read model has of it."""
    of_this = patient_identifier.c.identifier_hmac == identifier_hmac
    return sa.select(patient_identifier.c.emr_id).where(of_this).scalar_subquery()


class _OfNotes(NamedTuple):
    """A criterion that some note is to meet."""

    table: sa.Table
    is_had: sa.ColumnElement[bool]


def _of_notes(body: SearchIn) -> Iterable[_OfNotes]:
    for table, code in ((condition, body.condition_code), (medication, body.medication_code)):
        if code is not None:
            yield _OfNotes(table, table.c.code == code)
    if body.text is not None:
        query = sa.func.websearch_to_tsquery("simple", sa.literal(body.text, sa.Text()))
        yield _OfNotes(note, note.c.words.bool_op("@@")(query))


def _walked(body: SearchIn) -> _OfNotes | None:
    """The criterion whose EMRs are walked by their ids: a code, or words alone. None where an index of ``emr`` gives
    the order, or few hits.
    """
    if Order.of(body) is not Order.EMR_ID or body.birth_date is not None or body.identifier is not None:
        return None
    first = next(iter(_of_notes(body)), None)
    return None if first is not None and first.table is note and body.criteria.keys() != {"text"} else first


def _source(
    order: Order, body: SearchIn, walked: _OfNotes | None
) -> tuple[sa.FromClause, tuple[sa.ColumnElement[Any], ...]]:
    """What is walked, and the columns in whose order: those of one index."""
    match order:
        case Order.FAMILY_NAME:
            return emr, (family_name_key, emr.c.emr_id)
        case Order.GIVEN_NAME:
            return emr, (given_names_key, emr.c.emr_id)
        case Order.LAST_VISIT:
            return note.join(emr, emr.c.emr_id == note.c.emr_id), (note.c.period_start, note.c.emr_id)
    if walked is None:
        return emr, (emr.c.emr_id,)
    having = sa.select(walked.table.c.emr_id).distinct().where(walked.is_had)
    if body.after is not None:
        having = having.where(walked.table.c.emr_id > _position(order, body.after)[0])
    if walked.table is note:
        # Words that most notes say are not looked up as a whole. The page stays full: only notes of own EMRs have
        # words, and none of an erased one.
        having = having.limit(body.limit + 1)
    ids = having.order_by(walked.table.c.emr_id).subquery("having")
    return ids.join(emr, emr.c.emr_id == ids.c.emr_id), (ids.c.emr_id,)


def about_the_person(body: SearchIn) -> Iterable[sa.ColumnElement[bool]]:
    """Criteria that demographics alone decide."""
    for key, beginning in ((family_name_key, body.family_name), (given_names_key, body.given_name)):
        if beginning is not None:
            yield sa.func.starts_with(key, sa.func.lower(sa.literal(beginning, sa.Text())))
    if body.birth_date is not None:
        yield emr.c.birth_date == body.birth_date
    if body.sex is not None:
        yield emr.c.sex == body.sex


def _visited(order: Order, body: SearchIn) -> Iterable[sa.ColumnElement[bool]]:
    """In the order of visits an EMR stands at its last visit of the time asked for, and nowhere else."""
    if order is not Order.LAST_VISIT:
        yield sa.exists().where(note.c.emr_id == emr.c.emr_id, *_within(note, body))
        return
    yield from _within(note, body)
    later = note.alias("later")
    place = sa.tuple_(later.c.period_start, later.c.version) > sa.tuple_(note.c.period_start, note.c.version)
    yield ~sa.exists().where(later.c.emr_id == note.c.emr_id, place, *_within(later, body))


def _within(visit: sa.FromClause, body: SearchIn) -> Iterable[sa.ColumnElement[bool]]:
    """Days are those of UTC, the last one included."""
    yield visit.c.is_visit
    if body.visited_from is not None:
        yield visit.c.period_start >= datetime.combine(body.visited_from, time(), UTC)
    if body.visited_to is not None:
        yield visit.c.period_start <= datetime.combine(body.visited_to, time.max, UTC)


def _follows(order: Order, keys: Sequence[sa.ColumnElement[Any]], place: Sequence[Any]) -> sa.ColumnElement[bool]:
    kind = Timestamp if order is Order.LAST_VISIT else sa.Text()
    bound = [sa.literal(place[0], kind), *(sa.literal(value, sa.Text()) for value in place[1:])]
    if len(keys) == 1:
        return keys[0] > bound[0]
    return sa.tuple_(*keys) < sa.tuple_(*bound) if order is Order.LAST_VISIT else sa.tuple_(*keys) > sa.tuple_(*bound)


def _cursor(order: Order, row: dict[str, Any]) -> str:
    place = row["place"].isoformat() if order is Order.LAST_VISIT else row["place"]
    return cursors.cursor([order.value, place] if order is Order.EMR_ID else [order.value, place, row["emr_id"]])


def _position(order: Order, cursor: str) -> list[Any]:
    def place(of: str, *values: object) -> list[Any]:
        if of != order.value or len(values) != (1 if order is Order.EMR_ID else 2):
            raise ValueError("cursor")
        first = cursors.moment(values[0]) if order is Order.LAST_VISIT else cursors.text(values[0])
        return [first, *(cursors.text(value) for value in values[1:])]

    return cursors.position(cursor, place)
