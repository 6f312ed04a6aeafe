"""For how long the purge of an ending is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from emr_common.problems import Problem
from emr_consent.sharer import worker
from emr_consent.sharer.purging import PurgeClock
from emr_consent.sharer.worker import PURGE, Sharer
from emr_consent.store import SharingStore
from emr_model.ledger.codes import Code
from emr_model.ledger.events import LedgerEvent, decode
from emr_model.ledger.keys import ObjectType
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine
from support.read_model import Hospital


class Hands:
    """A clock that moves when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def clock(hands: Hands) -> PurgeClock:
    return PurgeClock(hands)


def test_nothing_is_due_until_something_ends(hands: Hands, clock: PurgeClock) -> None:
    hands.now += 500
    assert clock.seconds() == 0
    clock.ended()
    hands.now += 7
    clock.ended()
    assert clock.seconds() == 7


def test_a_round_that_went_well_leaves_nothing_due(hands: Hands, clock: PurgeClock) -> None:
    clock.ended()
    clock.begin()
    hands.now += 3
    clock.done()
    assert clock.seconds() == 0


def test_what_ended_during_a_round_is_due_after_it(hands: Hands, clock: PurgeClock) -> None:
    clock.begin()
    hands.now += 3
    clock.ended()
    hands.now += 2
    clock.done()
    assert clock.seconds() == 2


def test_a_round_that_failed_leaves_due_what_may_have_ended_since_the_last(hands: Hands, clock: PurgeClock) -> None:
    clock.begin()
    clock.done()
    hands.now += 20
    clock.begin()
    hands.now += 5
    clock.failed()
    assert clock.seconds() == 25
    clock.begin()
    clock.done()
    assert clock.seconds() == 0


def test_an_ending_of_before_the_start_is_due_since_then(hands: Hands, clock: PurgeClock) -> None:
    clock.begin()
    clock.ended(at=hands.now - 90)
    clock.failed()
    hands.now += 10
    assert clock.seconds() == 100


class Purges:
    """The ledger's side of purging: it fails as often as it is told, then finds one snapshot and purges it."""

    def __init__(self, emr_id: str, failures: int) -> None:
        self.emr_id = emr_id
        self.failures = failures
        self.purged = asyncio.Event()
        self.seconds: list[float] = []

    async def purge_ended(self, found: Callable[[Sequence[tuple[str, int]]], Awaitable[None]]) -> int:
        await found([(self.emr_id, 1)])
        self.seconds.append(REGISTRY.get_sample_value("emr_sharer_purge_due_seconds") or 0.0)
        if self.failures:
            self.failures -= 1
            raise Problem(Code.LEDGER_UNAVAILABLE)
        self.purged.set()
        return 1


async def test_the_metric_says_since_the_endings_own_time_until_it_is_purged(
    database: AsyncEngine, wrapping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = Hospital(database, wrapping, "HospitalB")
    hospital.writer.cut(hospital.writer.register("HospitalA"), hospital.writer.register("HospitalB"))
    patient, creation = hospital.writer.create_emr()
    hospital.writer.cut(creation)
    access, request = hospital.writer.request(patient, "HospitalB")
    approved, approvals = hospital.writer.approve(patient, "HospitalB", access, 0)
    hospital.writer.cut(request)
    hospital.writer.cut(*approvals)
    _, shared = hospital.writer.share(patient, "HospitalB", approved, 0, b"sealed")
    hospital.writer.cut(shared)
    hospital.writer.cut(hospital.writer.end(patient, "HospitalB", 1))
    await hospital.project()
    store = SharingStore(database, "HospitalB")
    ended_at = await store.first_ending([(patient.emr_id, 1)])
    assert ended_at is not None
    assert await store.first_ending([(patient.emr_id, 2)]) is None
    assert await SharingStore(database, "HospitalA").first_ending([(patient.emr_id, 1)]) is None

    monkeypatch.setattr(worker, "FIRST_RETRY_SECONDS", 0.01)
    purges = Purges(patient.emr_id, failures=2)

    async def hears() -> bool:
        return True

    sharer = Sharer(cast(Any, purges), store, cast(Any, None), "HospitalB", hears)
    running = asyncio.create_task(sharer.run())
    try:
        sharer.wake(PURGE)
        await asyncio.wait_for(purges.purged.wait(), 30)
        async with asyncio.timeout(30):
            while REGISTRY.get_sample_value("emr_sharer_purge_due_seconds"):
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert len(purges.seconds) >= 3
    at_least = (datetime.now(UTC) - ended_at - timedelta(minutes=2)).total_seconds()
    assert all(seconds > at_least for seconds in purges.seconds)


@pytest.mark.parametrize(
    ("msp_id", "expected"), [("HospitalA", {"share"}), ("HospitalB", {"purge"})], ids=["its owner", "its recipient"]
)
async def test_a_sharing_wakes_each_side_to_its_own_work(
    database: AsyncEngine, wrapping: Any, msp_id: str, expected: set[str]
) -> None:
    hospital = Hospital(database, wrapping, msp_id)
    writer = hospital.writer
    writer.cut(writer.register("HospitalA"), writer.register("HospitalB"))
    patient, creation = writer.create_emr()
    _, request = writer.request(patient, "HospitalB")
    for one in (creation, request, writer.end(patient, "HospitalB", 1)):
        writer.cut(one)

    async def hears() -> bool:
        return True

    sharer = Sharer(cast(Any, None), SharingStore(database, msp_id), cast(Any, None), msp_id, hears)
    for record in hospital.records():
        message = decode(record.value)
        if isinstance(message, LedgerEvent) and message.object_type in (ObjectType.ACCESS, ObjectType.END):
            sharer.on_event(message)
    due = {"purge" if task == PURGE else "share" for task in sharer._due}
    assert due == expected
    assert (sharer._purge_clock._since is not None) == (expected == {"purge"})
