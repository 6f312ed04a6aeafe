"""Batches of messages into rows, at least once and without a gap.

An EMR that cannot go on is parked and everyone else goes on; what is about no EMR stops its partition, and says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from emr_common.emr_keys import KeptKeys
from emr_common.sealing import WrappingKey
from emr_model.ledger.events import PARTITIONS, BlockMark, LedgerEvent, Message, partition_of
from emr_model.ledger.keys import ObjectType
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_indexer.postgres import persistently
from emr_indexer.projector import metrics, store
from emr_indexer.projector.changes import CannotProject, Changes, Refused
from emr_indexer.projector.contents import Ahead, Contents, Pseudonyms
from emr_indexer.projector.projection import NOWHERE, Effect, Projection
from emr_indexer.projector.records import Record
from emr_indexer.refusals import Refusal

REPLAYED_AT_ONCE = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Stop:
    record: Record
    code: Refusal


@dataclass
class Outcome:
    """What one transaction did. ``done`` are the records whose effect, or whose lack of one, is committed."""

    done: list[Record] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    events: Counter[tuple[ObjectType, Effect]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Replayed:
    """``events`` that waited are in now; ``parked`` says whether some still wait."""

    events: int
    parked: bool


class Projector:
    """Projects for one hospital. One call of ``project`` at a time. One that fills a shadow has other ``locks``, and
    neither counts nor tells what it does.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        msp_id: str,
        wrapping: WrappingKey,
        pseudonyms: Pseudonyms,
        partitions: int = PARTITIONS,
        locks: int = store.PARTITION_LOCKS,
    ) -> None:
        self._engine = engine
        self._msp_id = msp_id
        self._keys = KeptKeys(wrapping)
        self._ahead = Ahead(msp_id, self._keys)
        self._pseudonyms = pseudonyms
        self._partitions = partitions
        self._locks = locks
        self._tells = locks == store.PARTITION_LOCKS
        self.stopped: dict[int, Stop] = {}
        self.is_waiting_for_database = False

    def resume(self, partition: int) -> None:
        """The partition comes anew, from its last acknowledged record: what stopped it is tried again."""
        if self.stopped.pop(partition, None):
            metrics.STOPPED.labels(partition).set(0)

    def look_ahead(self, record: Record) -> None:
        """Does before its turn what of a record's work no row can change. What is wrong with it is said in its turn."""
        with suppress(Exception):
            if isinstance(event := record.message, LedgerEvent):
                self._ahead.open(event)

    async def project(self, records: Sequence[Record]) -> list[Record]:
        """Returns the records that may be acknowledged: their effect is committed.

        The others are of partitions that stopped, now or before, and must come again when the process starts anew.
        A Postgres that fails is waited for.
        """
        started = time.monotonic()
        waiting = [record for record in records if record.partition not in self.stopped]
        done = await self._project_all(waiting) if waiting else []
        if self._tells:
            metrics.BATCH_MESSAGES.observe(len(records))
            metrics.BATCH_SECONDS.observe(time.monotonic() - started)
        return done

    async def replay_all(self) -> None:
        """Tries everything that is parked: this may be a projector that knows better."""

        async def parked() -> set[str]:
            async with self._engine.connect() as connection:
                return await store.parked_subjects(connection)

        for subject in sorted(await persistently(parked)):
            await self.replay(subject)

    async def replay(self, subject: str) -> Replayed:
        """Applies what waits for a parked subject, in order, up to the next event that cannot be applied.

        Safe beside a projector at work, and to be repeated. A Postgres that fails is waited for.
        """
        replayed = Replayed(0, parked=True)
        while True:
            try:
                step, went_on = await self._replay_some(subject, REPLAYED_AT_ONCE)
            except Exception as error:
                log.error("replay_failed", exc_info=error)
                step, went_on = await self._replay_one(subject)
            replayed = Replayed(replayed.events + step.events, step.parked)
            if not went_on:
                return replayed

    async def _replay_one(self, subject: str) -> tuple[Replayed, bool]:
        """The next event alone: a mistake of the projector's own is about it, or not about it."""
        try:
            return await self._replay_some(subject, 1)
        except Exception as error:
            log.error("event_failed", exc_info=error)
            return await self._replay_some(subject, 1, fail_with=Refusal.PROJECTION_FAILED)

    async def _replay_some(self, subject: str, limit: int, fail_with: Refusal | None = None) -> tuple[Replayed, bool]:
        """One committed transaction; also says whether there is more to try."""

        async def transact() -> tuple[Replayed, bool]:
            partition = partition_of(subject, self._partitions)
            async with self._engine.begin() as connection:
                await store.lock_partitions(connection, [partition], self._locks)
                passed = await store.passed_block(connection, partition)
                return await self._replay_in(connection, subject, limit, fail_with, passed)

        return await persistently(transact)

    async def _replay_in(
        self, connection: AsyncConnection, subject: str, limit: int, fail_with: Refusal | None, passed: int
    ) -> tuple[Replayed, bool]:
        events = await store.waiting(connection, subject, limit)
        changes = Changes()
        projection = await self._projection(connection, events, set(), changes)
        projection.state.parked.discard(subject)
        done: list[LedgerEvent] = []
        for event in events:
            if fail_with is not None:
                projection.park(event, fail_with)
            elif projection.replay(event) is not Effect.PARKED:
                done.append(event)
                continue
            break
        self._keys.forget(changes.erased)
        changes.come_late(passed)
        await store.write(connection, changes)
        is_free = await store.release(connection, subject, done)
        return Replayed(len(done), parked=not is_free), not is_free and subject not in projection.state.parked

    async def _project_all(self, records: Sequence[Record]) -> list[Record]:
        """All in one transaction; if a mistake makes it fail, by halves, to find the record that it is about."""
        if len(records) == 1:
            return await self._project_one(records[0])
        try:
            return self._settle(await self._transact(records))
        except Exception as error:
            log.error("batch_failed", records=len(records), exc_info=error)
        done: list[Record] = []
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            if waiting := [record for record in half if record.partition not in self.stopped]:
                done += await self._project_all(waiting)
        return done

    async def _project_one(self, record: Record) -> list[Record]:
        try:
            outcome = await self._transact([record])
        except Exception as error:
            log.error("record_failed", partition=record.partition, offset=record.offset, exc_info=error)
            outcome = await self._transact([record], fail_with=Refusal.PROJECTION_FAILED)
        return self._settle(outcome)

    async def _transact(self, records: Sequence[Record], *, fail_with: Refusal | None = None) -> Outcome:
        """One committed transaction. What Postgres fails in is tried again until it succeeds; mistakes are raised."""

        async def transact() -> Outcome:
            async with self._engine.begin() as connection:
                return await self._apply(connection, records, fail_with)

        outcome = await persistently(transact, self._wait_for_database)
        self.is_waiting_for_database = False
        return outcome

    def _wait_for_database(self) -> None:
        self.is_waiting_for_database = True
        metrics.DATABASE_FAILURES.inc()

    async def _apply(
        self, connection: AsyncConnection, records: Sequence[Record], fail_with: Refusal | None
    ) -> Outcome:
        messages = [(record, record.message) for record in records]
        partitions = {record.partition for record in records}
        await store.lock_partitions(connection, partitions, self._locks)
        outcome = Outcome()
        events = [message for _, message in messages if isinstance(message, LedgerEvent)]
        projection = await self._projection(connection, events, partitions, outcome.changes)
        for record, message in messages:
            if all(stop.record.partition != record.partition for stop in outcome.stops):
                self._step(projection, record, message, fail_with, outcome)
        await store.write(connection, outcome.changes)
        return outcome

    async def _projection(
        self,
        connection: AsyncConnection,
        events: Sequence[LedgerEvent],
        partitions: set[int],
        changes: Changes,
    ) -> Projection:
        kinds = {event.object_type for event in events}
        subjects = {event.subject for event in events}
        state = await store.load_state(connection, subjects, partitions, kinds)
        sealed = [event for event in events if event.sealed is not None]
        repeated = {event.subject for event in sealed if event.position <= state.positions.get(event.subject, NOWHERE)}
        await store.load_placeholders(connection, state, repeated)
        keys = await store.wrapped_keys(connection, {event.subject for event in sealed}) if sealed else {}
        contents = Contents(self._msp_id, self._keys, keys, self._ahead)
        return Projection(self._msp_id, contents, self._pseudonyms, state, changes)

    def _step(
        self,
        projection: Projection,
        record: Record,
        message: Message | None,
        fail_with: Refusal | None,
        outcome: Outcome,
    ) -> None:
        try:
            if fail_with is None:
                _project(projection, record, message, outcome)
            elif isinstance(message, LedgerEvent):
                projection.park(message, fail_with)
            else:
                raise CannotProject(fail_with)
            outcome.done.append(record)
        except CannotProject as failure:
            outcome.changes.refused.append(_stopping(record, message, failure.code))
            outcome.stops.append(Stop(record, failure.code))

    def _settle(self, outcome: Outcome) -> list[Record]:
        """After the commit: what the process remembers and counts."""
        self._keys.forget(outcome.changes.erased)
        self.stopped.update({stop.record.partition: stop for stop in outcome.stops})
        if self._tells:
            _tell(outcome)
        return outcome.done


def _tell(outcome: Outcome) -> None:
    for stop in outcome.stops:
        metrics.STOPPED.labels(stop.record.partition).set(1)
        log.critical(
            "partition_stopped", partition=stop.record.partition, offset=stop.record.offset, code=stop.code.value
        )
    for parked in outcome.changes.parked.values():
        log.critical("emr_parked", event_id=parked.event_id, code=parked.code)
    _count(outcome)


def _project(projection: Projection, record: Record, message: Message | None, outcome: Outcome) -> None:
    match message:
        case BlockMark():
            projection.mark(record.partition, message)
        case LedgerEvent():
            effect = projection.event(record.partition, message)
            outcome.events[message.object_type, effect] += 1
        case _ if record.id not in projection.state.skipped:
            raise CannotProject(Refusal.MESSAGE_MALFORMED)
    if projection.state.stopped:
        event_id = message.id if isinstance(message, LedgerEvent) else record.id
        outcome.changes.resolved |= {event_id} & projection.state.stopped


def _stopping(record: Record, message: Message | None, code: Refusal) -> Refused:
    if isinstance(message, LedgerEvent):
        return Refused.by_projector(message, code, record.partition)
    object_type = "mark" if isinstance(message, BlockMark) else "message"
    return Refused(record.id, code.value, "projector", object_type, partition=record.partition)


def _count(outcome: Outcome) -> None:
    now = time.time()
    for (object_type, result), number in outcome.events.items():
        metrics.EVENTS.labels(object_type.value, result.value).inc(number)
    for refused in outcome.changes.refused:
        metrics.DEAD_LETTERS.labels(refused.code).inc()
    for partition, mark in outcome.changes.marks.items():
        metrics.BLOCK.labels(partition).set(mark.block)
        metrics.DELAY_SECONDS.observe(max(0.0, now - mark.at.timestamp()))
    metrics.PLACEHOLDERS.inc(sum(1 for note in outcome.changes.notes.values() if note["content"] is None))
