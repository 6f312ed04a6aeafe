from __future__ import annotations

import pytest
from emr_common import rates
from emr_common.problems import Problem
from emr_common.rates import Bucket, Rates
from emr_common.settings import RateSettings
from emr_common.tokens import Claims
from emr_model.ledger.codes import Code
from hypothesis import given
from hypothesis import strategies as st

WAITS = st.lists(st.floats(min_value=0, max_value=3), max_size=60)


@given(per_second=st.floats(min_value=0.1, max_value=50), burst=st.integers(1, 20), waits=WAITS)
def test_a_bucket_gives_no_more_than_its_burst_and_its_rate(per_second: float, burst: int, waits: list[float]) -> None:
    now, taken = 0.0, 0
    bucket = Bucket(per_second, burst, now)
    for wait in waits:
        now += wait
        taken += bucket.take(now) == 0
        assert taken <= burst + now * per_second + 1e-6


@given(per_second=st.floats(min_value=0.1, max_value=50), burst=st.integers(1, 20))
def test_who_waits_as_told_is_let_in(per_second: float, burst: int) -> None:
    bucket = Bucket(per_second, burst, 0.0)
    for _ in range(burst):
        assert bucket.take(0.0) == 0
    wait = bucket.take(0.0)
    assert wait > 0
    assert bucket.take(wait + 1e-6) == 0


def admitted(limits: Rates, subject: str, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            limits.admit(Claims("issuer", subject))
            count += 1
        except Problem as problem:
            assert problem.code is Code.TOO_MANY_REQUESTS
            assert int(problem.headers["Retry-After"]) >= 1
    return count


def settings(**changed: float) -> RateSettings:
    slow = {"token_per_second": 1e-6, "hospital_per_second": 1e-6, "token_burst": 5, "hospital_burst": 100}
    return RateSettings.model_validate({**slow, **changed})


def test_one_callers_excess_costs_the_others_nothing() -> None:
    limits = Rates(settings())
    assert admitted(limits, "loud", 50) == 5
    assert admitted(limits, "quiet", 5) == 5


def test_all_callers_of_a_hospital_have_one_allowance_together() -> None:
    limits = Rates(settings(hospital_burst=12))
    assert [admitted(limits, f"caller-{number}", 5) for number in range(4)] == [5, 5, 2, 0]


def test_a_caller_turned_away_for_the_others_keeps_their_own_allowance() -> None:
    limits = Rates(settings(hospital_burst=5))
    admitted(limits, "loud", 5)
    assert admitted(limits, "quiet", 3) == 0
    limits._all.give_back()
    assert admitted(limits, "quiet", 1) == 1


def test_strangers_without_number_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_CALLERS", 10)
    limits = Rates(settings(hospital_burst=10_000))
    for number in range(1000):
        admitted(limits, f"caller-{number}", 1)
    assert len(limits._callers) == 10
