"""The worker that shares what both sides have approved, ends what has expired, and purges what has ended.

It decides nothing: it asks the ledger where a sharing stands and takes the step that is due. So it may crash, repeat or
run twice: the contract refuses what is done already. Events from Kafka only wake it; a sweep over the read model finds
what an event missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from emr_common.contents import ContentMismatch, ContentMissing
from emr_common.emr_keys import EmrKeyMissing
from emr_common.ledger import Committed
from emr_common.owners_word import OwnersWord
from emr_common.problems import OutcomePending, Problem
from emr_model.clinical.errors import ClinicalError
from emr_model.ledger.answers import SharingView
from emr_model.ledger.codes import Code
from emr_model.ledger.events import LedgerEvent
from emr_model.ledger.keys import ObjectType
from emr_model.ledger.sharing import SharingState
from prometheus_client import Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from emr_consent.sharer.purging import PurgeClock
from emr_consent.sharer.snapshots import Snapshots
from emr_consent.store import SharingStore

SWEEP_SECONDS = 5.0
UNHEARD_SWEEP_SECONDS = 0.5  # while events do not come: after a crash Kafka waits for the one that died
PURGE_SECONDS = 20.0
FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 30.0
CONCURRENCY = 4

DONE_ALREADY = frozenset(
    {
        Code.SNAPSHOT_EXISTS,
        Code.SNAPSHOT_VERSION_WRONG,
        Code.SHARING_NOT_FOUND,
        Code.SHARING_ENDED,
        Code.SHARING_EXPIRED,
        Code.SHARING_NOT_EXPIRED,
        Code.SHARING_NOT_APPROVED,
        Code.EMR_NOT_FOUND,
        Code.EMR_ERASED,
    }
)
"""Answers that say that the step is not due (any more)."""

STEPS = Counter("emr_sharer_steps_total", "Steps that the sharer took", ["step"])
FAILURES = Counter("emr_sharer_failures_total", "Steps that failed and will be tried again", ["code"])
DUE = Gauge("emr_sharer_due", "Sharings that wait for a step of the sharer")
PURGE_DUE = Gauge(
    "emr_sharer_purge_due_seconds", "For how long a snapshot may be here whose sharing has ended; 0 when none is"
)

log = structlog.get_logger(__name__)

Task = tuple[str, str]
"""EMR and recipient; the recipient's own purge is :data:`PURGE`."""

PURGE: Task = ("", "")


@dataclass
class Sharer:
    snapshots: Snapshots
    store: SharingStore
    word: OwnersWord
    msp_id: str
    hears_events: Callable[[], Awaitable[bool]]
    _due: set[Task] = field(default_factory=set)
    _running: set[Task] = field(default_factory=set)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _purge_clock: PurgeClock = field(default_factory=PurgeClock)

    def on_event(self, event: LedgerEvent) -> None:
        """Wakes the step that an event may have made due: a purge where this hospital received, else a sharing."""
        if event.object_type is ObjectType.LIFE:
            self._ended()
        elif event.object_type in (ObjectType.ACCESS, ObjectType.END):
            self._on_sharing(event, event.attributes[0], event.attributes[1])

    def _on_sharing(self, event: LedgerEvent, emr_id: str, recipient_msp: str) -> None:
        is_ending = event.object_type is ObjectType.END
        if recipient_msp != self.msp_id:
            if not is_ending:
                self.wake((emr_id, recipient_msp))
        elif is_ending:
            self._ended()
        else:
            self.wake(PURGE)  # a newer snapshot takes the place of one that is here

    def _ended(self) -> None:
        self._purge_clock.ended()
        self.wake(PURGE)

    def wake(self, task: Task) -> None:
        self._due.add(task)
        self._woken.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        PURGE_DUE.set_function(self._purge_clock.seconds)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            tasks.create_task(_every(PURGE_SECONDS, self._wake_purge))
            while True:
                await self._woken.wait()
                self._woken.clear()
                for task in sorted(self._due - self._running)[: CONCURRENCY - len(self._running)]:
                    self._due.discard(task)
                    self._running.add(task)
                    tasks.create_task(self._settle(task))
                DUE.set(len(self._due) + len(self._running))

    async def _sweep(self) -> None:
        while True:
            heard = await self.hears_events()
            try:
                for task in await self.store.unsettled():
                    self.wake(task)
            except (SQLAlchemyError, OSError) as error:
                log.warning("sweep_failed", failure=type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS if heard else UNHEARD_SWEEP_SECONDS)

    async def _wake_purge(self) -> None:
        self.wake(PURGE)

    async def _settle(self, task: Task) -> None:
        """Takes the step that is due, again and again until nothing is."""
        wait = FIRST_RETRY_SECONDS
        try:
            while not await self._step(task):
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_RETRY_SECONDS)
        finally:
            self._running.discard(task)
            self._woken.set()

    async def _step(self, task: Task) -> bool:
        """Whether nothing is left to do. A failure is told by its code and the step tried again."""
        try:
            return await (self._purge() if task == PURGE else self._advance(*task))
        except Problem as problem:
            return self._explained(problem.code, problem.transaction_id)
        except OutcomePending as pending:
            return self._failed("OUTCOME_PENDING", pending.transaction_id)
        except (EmrKeyMissing, ContentMissing, ContentMismatch, ClinicalError, SQLAlchemyError, OSError) as error:
            return self._failed(type(error).__name__)

    async def _purge(self) -> bool:
        self._purge_clock.begin()
        try:
            STEPS.labels("purge").inc(await self.snapshots.purge_ended(self._note_endings))
        except BaseException:
            self._purge_clock.failed()
            raise
        self._purge_clock.done()
        return True

    async def _note_endings(self, snapshots: Sequence[tuple[str, int]]) -> None:
        """Of EMR and number of sharings whose snapshots are to be purged: a sharer that starts learns since when."""
        ended_at = await self.store.first_ending(snapshots)
        if ended_at is not None:
            self._purge_clock.ended(ended_at.timestamp())

    async def _advance(self, emr_id: str, recipient_msp: str) -> bool:
        sharing = await self.snapshots.sharing(emr_id, recipient_msp)
        if sharing.owner_msp == self.msp_id and (step := self._next_step(sharing)) is not None:
            name, take = step
            if not await self.word.has(sharing):
                return self._failed("APPROVAL_NOT_PROJECTED")
            committed = await take(sharing)
            STEPS.labels(name).inc()
            log.info(name, emr_id=emr_id, recipient=recipient_msp, transaction_id=committed.transaction_id)
        return True

    def _next_step(self, sharing: SharingView) -> tuple[str, Callable[[SharingView], Awaitable[Committed]]] | None:
        if sharing.state is SharingState.EXPIRED:
            return "expire", self.snapshots.expire
        return ("share", self.snapshots.share) if sharing.pending_version is not None else None

    def _explained(self, code: Code, transaction_id: str | None) -> bool:
        return code in DONE_ALREADY or self._failed(code.name, transaction_id)

    def _failed(self, code: str, transaction_id: str | None = None) -> bool:
        FAILURES.labels(code).inc()
        log.warning("step_failed", code=code, transaction_id=transaction_id)
        return False


async def _every(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    while True:
        await do()
        await asyncio.sleep(seconds)
