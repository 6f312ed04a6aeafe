from __future__ import annotations

import logging
from collections.abc import Iterator

import asyncpg
import pytest
from emr_indexer import kafka
from emr_indexer.kafka import SparseLog
from emr_indexer.postgres import may_pass, persistently
from emr_indexer.projector.monitor import STUCK_SECONDS, ConsumerStuck, Progress, Watchdog
from sqlalchemy.exc import IntegrityError, OperationalError


def _progress(lag: int, acknowledged: int) -> Progress:
    return Progress({0: lag, 1: 0}, {0: acknowledged, 1: 5})


def test_a_consumer_that_stands_still_though_there_is_work_is_stuck() -> None:
    watchdog = Watchdog()
    watchdog.saw(_progress(3, 10), (), 0)
    watchdog.saw(_progress(3, 10), (), STUCK_SECONDS)
    with pytest.raises(ConsumerStuck):
        watchdog.saw(_progress(3, 10), (), STUCK_SECONDS + 1)


def test_a_consumer_that_moves_however_slowly_is_not_stuck() -> None:
    watchdog = Watchdog()
    for step in range(10):
        watchdog.saw(_progress(1000, step), (), step * (STUCK_SECONDS - 1))


@pytest.mark.parametrize(("lag", "stopped"), [(0, ()), (3, (0,))])
def test_a_consumer_without_work_or_that_waits_for_a_person_is_not_stuck(lag: int, stopped: tuple[int, ...]) -> None:
    watchdog = Watchdog()
    for seconds in (0, STUCK_SECONDS * 2, STUCK_SECONDS * 4):
        watchdog.saw(_progress(lag, 10), stopped, seconds)


def test_the_time_in_which_nothing_could_be_known_does_not_count() -> None:
    watchdog = Watchdog()
    watchdog.saw(_progress(3, 10), (), 0)
    watchdog.forgive()
    watchdog.saw(_progress(3, 10), (), STUCK_SECONDS * 3)


class _Failure(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__("said by Postgres")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.CannotConnectNowError(), True),
        (OperationalError("select", None, _Failure("40P01")), True),
        (OperationalError("select", None, _Failure("57P01")), True),
        (IntegrityError("insert", None, _Failure("23502")), False),
        (OperationalError("select", None, _Failure("22P02")), False),
        (ValueError(), False),
    ],
)
def test_what_ends_by_itself_is_told_from_what_does_not(error: Exception, expected: bool) -> None:
    assert may_pass(error) is expected


async def test_an_action_is_repeated_until_postgres_is_back() -> None:
    outcomes: Iterator[Exception | int] = iter([ConnectionRefusedError(), TimeoutError(), 7])
    waits = []

    async def action() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert await persistently(action, lambda: waits.append(1)) == 7
    assert len(waits) == 2


async def test_a_mistake_is_not_repeated() -> None:
    calls = 0

    async def action() -> None:
        nonlocal calls
        calls += 1
        raise ValueError("mistake")

    with pytest.raises(ValueError, match="mistake"):
        await persistently(action)
    assert calls == 1


def test_what_a_client_says_again_and_again_is_logged_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("emr_indexer.kafka.time.monotonic", lambda: now)
    sparse = SparseLog()

    def passes(logger: str, line: int) -> bool:
        return sparse.filter(logging.LogRecord(logger, logging.ERROR, "f", line, "m", (), None))

    assert [passes("aiokafka", 1), passes("aiokafka", 1), passes("aiokafka", 2)] == [True, False, True]
    assert [passes("emr_indexer", 1), passes("emr_indexer", 1)] == [True, True]
    now += kafka.LOG_SECONDS
    assert passes("aiokafka", 1)
