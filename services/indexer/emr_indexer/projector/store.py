"""The projector's SQL: what is known before a batch, and a batch's rows with its positions, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from emr_model.ledger.events import PARTITIONS, BlockMark, LedgerEvent, decode, encode
from emr_model.ledger.keys import ObjectType
from emr_model.ledger.values import Access, Life
from emr_readmodel import care, hospital
from emr_readmodel.shadows import WALK
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_indexer.projector.changes import WITHOUT_CONTENT, WITHOUT_DEMOGRAPHICS, Changes, Ended, Parked, Refused
from emr_indexer.projector.projection import Position, State
from emr_indexer.projector.upserts import any_of, put, rows_of_text, update
from emr_indexer.refusals import PARKING, Refusal

PARTITION_LOCKS = 0x454D5203
"""First half of the advisory locks that keep two projectors off one partition: one may not know yet that it lost it."""

SHADOW_LOCKS = PARTITION_LOCKS + 0x100
WALK_LOCKS = PARTITION_LOCKS + 0x200
"""The same of the one partition through which a shadow is filled."""

_CONTENT_COLUMNS = frozenset(WITHOUT_DEMOGRAPHICS)
_EMR_COLUMNS = [column.name for column in care.emr.c if column.name not in _CONTENT_COLUMNS]
_ENDING_COLUMNS = frozenset({"ended_at", "ended_by", "ended_why", "ending"})


async def prepare(engine: AsyncEngine, partitions: int = PARTITIONS) -> str:
    """Gives every partition a position, so that as_of_block is the least over all, and returns the generation.

    When the topic has another number of partitions than before, all begin anew: what is in already is known by the
    positions of EMRs.
    """
    async with engine.begin() as connection:
        await lock_partitions(connection, range(partitions))
        known = set(await connection.scalars(sa.select(care.position.c.partition)))
        if known != set(range(partitions)):
            reached = sa.select(sa.func.max(care.position.c.block)).scalar_subquery()
            greatest = sa.func.greatest(care.generation.c.reached, reached)
            await connection.execute(sa.update(care.generation).values(reached=greatest))
            await connection.execute(sa.delete(care.position))
            rows = [{"partition": partition, "block": -1} for partition in range(partitions)]
            await connection.execute(insert(care.position), rows)
        generation: str = (await connection.scalars(sa.select(care.generation.c.id))).one()
        return generation


async def lock_partitions(
    connection: AsyncConnection, partitions: Iterable[int], locks_of: int = PARTITION_LOCKS
) -> None:
    """Until the end of the transaction; in one order, so that two projectors never wait for each other.

    The transaction's statements are planned each time: a plan made for tables that were empty reads them whole.
    """
    locks = [sa.func.pg_advisory_xact_lock(locks_of, partition) for partition in sorted(partitions)]
    planning = sa.func.set_config("plan_cache_mode", "force_custom_plan", True)
    await connection.execute(sa.select(planning, *locks))


async def load_state(
    connection: AsyncConnection,
    subjects: Collection[str],
    partitions: Collection[int],
    kinds: Collection[ObjectType] = frozenset(ObjectType),
) -> State:
    """What the read model knows of the subjects and partitions. The partitions' locks must be held.

    ``kinds``: what there may be events about.
    """
    state = State()
    if ObjectType.END in kinds:
        state.ended = await _ended(connection, subjects)
    if ObjectType.ACCESS in kinds:
        state.accesses = await _accesses(connection, subjects)
    await _load_subjects(connection, state, subjects)
    if partitions and await _load_blocks(connection, state, partitions):
        await _load_stops(connection, state, partitions)
    return state


async def load_placeholders(connection: AsyncConnection, state: State, emr_ids: Collection[str]) -> None:
    """Completes the state for events that come a second time with content."""
    if not emr_ids:
        return
    table = care.note
    query = sa.select(table).where(table.c.emr_id == any_of(emr_ids), table.c.content.is_(None))
    for row in (await connection.execute(query)).mappings():
        state.placeholders[row["emr_id"], row["version"]] = dict(row)
    alive = sa.and_(care.emr.c.emr_id == any_of(emr_ids), care.emr.c.life != Life.ERASED.value)
    query_emrs = sa.select(care.emr.c.emr_id).where(alive, care.emr.c.demographics.is_(None))
    state.without_demographics.update(await connection.scalars(query_emrs))


async def parked_subjects(connection: AsyncConnection) -> set[str]:
    """All that wait."""
    return set(await connection.scalars(sa.select(care.parked.c.subject)))


async def waiting(connection: AsyncConnection, subject: str, limit: int) -> list[LedgerEvent]:
    """The first events that wait for the subject, in order. Its partition's lock must be held."""
    table = care.parked_event.c
    query = sa.select(table.message).where(table.subject == subject).order_by(table.block, table.tx, table.write)
    found = [decode(message) for message in await connection.scalars(query.limit(limit))]
    return [event for event in found if isinstance(event, LedgerEvent)]


async def passed_block(connection: AsyncConnection, partition: int | None = None) -> int:
    """No reader of events is further, nor will be before the partition's lock is given back, or those of all."""
    here = sa.select(sa.func.min(care.position.c.block))
    if partition is not None:
        here = here.where(care.position.c.partition == partition)
    query = sa.select(sa.func.greatest(care.generation.c.reached, here.scalar_subquery()))
    found: int = (await connection.scalars(query)).one()
    return found


async def release(connection: AsyncConnection, subject: str, events: Sequence[LedgerEvent]) -> bool:
    """Drops events that are in now. Whether nothing waits any more; then the subject is no longer parked."""
    table = care.parked_event.c
    is_in = sa.and_(table.subject == subject, table.event_id.in_([event.id for event in events]))
    await connection.execute(sa.delete(care.parked_event).where(is_in))
    letter = care.dead_letter.c
    of_these = sa.and_(letter.event_id.in_([event.id for event in events]), letter.stage == "projector")
    stood = sa.and_(of_these, letter.code.in_(PARKING), letter.resolved_at.is_(None))
    await connection.execute(sa.update(care.dead_letter).where(stood).values(resolved_at=sa.func.now()))
    left = await connection.scalar(sa.select(sa.func.count()).where(table.subject == subject))
    if left:
        return False
    await connection.execute(sa.delete(care.parked).where(care.parked.c.subject == subject))
    return True


async def _load_subjects(connection: AsyncConnection, state: State, subjects: Collection[str]) -> None:
    """Positions, what is parked, and rows of EMRs, in one query: a small batch costs as much as its round trips."""
    if not subjects:
        return
    position, given = care.emr_position.c, rows_of_text("subject", subjects)
    columns = [care.emr.c[name] for name in _EMR_COLUMNS]
    is_parked = care.parked.c.subject.is_not(None)
    about = given.outerjoin(care.emr_position, position.emr_id == given.c.subject)
    about = about.outerjoin(care.parked, care.parked.c.subject == given.c.subject)
    about = about.outerjoin(care.emr, care.emr.c.emr_id == given.c.subject)
    query = sa.select(given.c.subject, is_parked, position.block, position.tx, position.write, *columns)
    for subject, waits, block, tx, write_number, *emr in await connection.execute(query.select_from(about)):
        if waits:
            state.parked.add(subject)
        if block is not None:
            state.positions[subject] = (block, tx, write_number)
        if emr[0] is not None:
            state.emrs[subject] = dict(zip(_EMR_COLUMNS, emr, strict=True))


async def _ended(connection: AsyncConnection, subjects: Collection[str]) -> dict[tuple[str, str], int]:
    table = care.ending.c
    query = sa.select(table.emr_id, table.recipient_msp, table.number).where(table.emr_id == any_of(subjects))
    return {(emr_id, recipient): number for emr_id, recipient, number in await connection.execute(query)}


async def _accesses(connection: AsyncConnection, subjects: Collection[str]) -> dict[tuple[str, str], Access]:
    table = care.sharing.c
    pair = (table.emr_id, table.recipient_msp)
    query = sa.select(*pair, table.access).where(table.emr_id == any_of(subjects)).ext(distinct_on(*pair))
    found = await connection.execute(query.order_by(*pair, table.number.desc()))
    return {(emr_id, recipient): Access.from_wire(access) for emr_id, recipient, access in found}


async def _load_blocks(connection: AsyncConnection, state: State, partitions: Collection[int]) -> bool:
    """Whether one of the partitions was ever stopped."""
    table, letter = care.position.c, care.dead_letter.c
    stopped = sa.exists().where(letter.stops_partition, letter.partition == table.partition)
    query = sa.select(table.partition, table.block, stopped).where(table.partition.in_(partitions))
    found = (await connection.execute(query)).all()
    state.blocks.update({partition: block for partition, block, _ in found})
    return any(was_stopped for *_, was_stopped in found)


async def _load_stops(connection: AsyncConnection, state: State, partitions: Collection[int]) -> None:
    table = care.dead_letter.c
    query = sa.select(table.event_id, table.code, table.resolved_at)
    found = (await connection.execute(query.where(table.stops_partition, table.partition.in_(partitions)))).all()
    given_up = [row for row in found if row.resolved_at is not None and row.code == Refusal.MESSAGE_MALFORMED.value]
    state.stopped = frozenset(row.event_id for row in found if row.resolved_at is None)
    state.skipped = frozenset(row.event_id for row in given_up)


async def wrapped_keys(connection: AsyncConnection, emr_ids: Collection[str]) -> dict[str, bytes]:
    """A shadow of the walk gets none of an EMR that is erased already: its rows are to stay without content."""
    table = hospital.emr_key.c
    query = sa.select(table.emr_id, table.wrapped_keyset).where(table.emr_id == any_of(emr_ids))
    if _schema(connection) == WALK:
        is_erased = "select from care.emr e where e.emr_id = emr_key.emr_id and e.life = 'erased'"
        query = query.where(sa.text(f"not exists ({is_erased})"))
    return {row.emr_id: row.wrapped_keyset for row in await connection.execute(query)}


async def write(connection: AsyncConnection, changes: Changes) -> None:
    """Every row of a batch and its positions. Repeating it changes nothing."""
    await put(connection, care.organization, changes.organizations.values())
    await put(connection, care.emr, changes.emrs.values(), keep=_CONTENT_COLUMNS)
    await update(connection, care.emr, _CONTENT_COLUMNS, changes.demographics.values())
    await put(connection, care.note, changes.notes.values())
    await put(connection, care.condition, changes.conditions.values())
    await put(connection, care.medication, changes.medications.values())
    await put(connection, care.pseudonym, changes.pseudonyms.values())
    await put(connection, care.sharing, changes.sharings.values(), keep=_ENDING_COLUMNS)
    await put(connection, care.ending, changes.endings.values())
    await _end_sharings(connection, changes.ended)
    await put(connection, care.disclosure, changes.disclosures.values())
    await _erase(connection, changes.erased)
    await put_dead_letters(connection, changes.refused)
    await _park(connection, changes.parked.values(), changes.waiting.values())
    await _resolve(connection, changes.resolved)
    await _put_positions(connection, changes.positions)
    await _put_marks(connection, changes.marks)


async def _end_sharings(connection: AsyncConnection, endings: Sequence[Ended]) -> None:
    """In order: a sharing ends by the first ending that reaches its number."""
    table = care.sharing
    for each in endings:
        is_of_pair = sa.and_(table.c.emr_id == each.emr_id, table.c.recipient_msp == each.recipient_msp)
        statement = (
            sa.update(table)
            .where(is_of_pair, table.c.number <= each.number, table.c.ended_at.is_(None))
            .values(
                ended_at=each.at,
                ended_by=each.by,
                ended_why=each.why,
                ending=each.value,
                transaction_id=each.transaction_id,
                block=each.block,
                late_block=each.late_block,
            )
        )
        await connection.execute(statement)


async def has_shadow(connection: AsyncConnection, name: str) -> bool:
    """All of its tables, made by one statement, or none."""
    return await connection.scalar(sa.select(sa.func.to_regclass(f"{name}.generation"))) is not None


async def _erase(connection: AsyncConnection, emr_ids: Collection[str]) -> None:
    """From a shadow that the walk fills meanwhile too, which may not be that far yet."""
    if not emr_ids:
        return
    for statement in _erasing(emr_ids):
        await connection.execute(statement)
    if _schema(connection) is not None:
        return
    await lock_partitions(connection, [0], WALK_LOCKS)
    if await has_shadow(connection, WALK):
        for statement in _erasing(emr_ids):
            await connection.execute(statement, execution_options={"schema_translate_map": {care.SCHEMA: WALK}})


def _erasing(emr_ids: Collection[str]) -> Iterator[sa.Update | sa.Delete]:
    nothing = dict.fromkeys(_CONTENT_COLUMNS)
    yield sa.update(care.emr).where(care.emr.c.emr_id.in_(emr_ids)).values(nothing)
    yield sa.update(care.note).where(care.note.c.emr_id.in_(emr_ids)).values(dict(WITHOUT_CONTENT))
    for table in (care.condition, care.medication, care.pseudonym):
        yield sa.delete(table).where(table.c.emr_id.in_(emr_ids))


def _schema(connection: AsyncConnection) -> str | None:
    """The shadow to which the connection's statements go; None for schema ``care`` itself."""
    on = connection.sync_connection
    names = {} if on is None else on.get_execution_options().get("schema_translate_map") or {}
    shadow: str | None = names.get(care.SCHEMA)
    return shadow


async def _park(connection: AsyncConnection, parked: Collection[Parked], waiting: Collection[LedgerEvent]) -> None:
    if parked:
        statement = insert(care.parked)
        changed = {name: statement.excluded[name] for name in ("event_id", "code")}
        statement = statement.on_conflict_do_update(index_elements=["subject"], set_=changed)
        await connection.execute(statement, [vars(each) for each in parked])
    if waiting:
        statement = insert(care.parked_event)
        longer = sa.func.octet_length(statement.excluded.message) > sa.func.octet_length(care.parked_event.c.message)
        statement = statement.on_conflict_do_update(
            index_elements=list(care.parked_event.primary_key),
            set_={"message": statement.excluded.message},
            where=longer,  # it came again, with the content that was missing
        )
        await connection.execute(statement, [_parked_event(each) for each in waiting])


def _parked_event(event: LedgerEvent) -> dict[str, Any]:
    block, tx, write_number = event.position
    return {
        "subject": event.subject,
        "block": block,
        "tx": tx,
        "write": write_number,
        "event_id": event.id,
        "object_type": event.object_type.value,
        "message": encode(event),
    }


async def put_dead_letters(connection: AsyncConnection, refused: Sequence[Refused]) -> None:
    """Each once: a repetition keeps the time of the first and stands again if it was resolved."""
    if not refused:
        return
    statement = insert(care.dead_letter)
    statement = statement.on_conflict_do_update(
        index_elements=list(care.dead_letter.primary_key),
        set_={"resolved_at": None, "stops_partition": statement.excluded.stops_partition},
    )
    await connection.execute(statement, [_dead_letter(each) for each in refused])


def _dead_letter(refused: Refused) -> dict[str, Any]:
    return {
        "event_id": refused.event_id,
        "code": refused.code,
        "stage": refused.stage,
        "transaction_id": refused.transaction_id,
        "object_type": refused.object_type,
        "emr_id": refused.emr_id,
        "stops_partition": refused.partition is not None,
        "partition": refused.partition,
    }


async def _resolve(connection: AsyncConnection, event_ids: Collection[str]) -> None:
    """What stopped a partition and was projected after all."""
    if not event_ids:
        return
    table = care.dead_letter
    waits = sa.and_(table.c.event_id.in_(event_ids), table.c.stops_partition, table.c.resolved_at.is_(None))
    await connection.execute(sa.update(table).where(waits).values(resolved_at=sa.func.now()))


async def _put_positions(connection: AsyncConnection, positions: Mapping[str, Position]) -> None:
    rows = [
        {"emr_id": subject, "block": block, "tx": tx, "write": write}
        for subject, (block, tx, write) in positions.items()
    ]
    await put(connection, care.emr_position, rows)


async def _put_marks(connection: AsyncConnection, marks: Mapping[int, BlockMark]) -> None:
    if not marks:
        return
    statement = insert(care.position)
    statement = statement.on_conflict_do_update(
        index_elements=["partition"],
        set_={
            "block": statement.excluded.block,
            "marked_at": statement.excluded.marked_at,
            "projected_at": sa.func.now(),
        },
    )
    rows = [{"partition": partition, "block": mark.block, "marked_at": mark.at} for partition, mark in marks.items()]
    await connection.execute(statement, rows)


async def count_parked(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.scalars(sa.select(sa.func.count()).select_from(care.parked))).one()


async def stopped_partitions(engine: AsyncEngine) -> frozenset[int]:
    """Those that wait for a person, whichever process stopped them."""
    table = care.dead_letter.c
    query = sa.select(table.partition).where(table.stops_partition, table.resolved_at.is_(None))
    async with engine.connect() as connection:
        return frozenset(each for each in await connection.scalars(query) if each is not None)
