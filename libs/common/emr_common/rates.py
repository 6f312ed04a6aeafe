"""How many requests a caller, and a hospital's callers together, may make of one process: token buckets in memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from emr_model.ledger.codes import Code

from emr_common.problems import Problem
from emr_common.settings import RateSettings
from emr_common.tokens import Claims

MOST_CALLERS = 10_000


class Bucket:
    """Refilled at ``per_second`` up to ``burst``. ``take`` spends one, or says how many seconds there is none."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, now: float) -> float:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0

    def give_back(self) -> None:
        self._left = min(self._burst, self._left + 1)


class Rates:
    """Buckets of the callers seen last, by issuer and subject, so that a new token brings nobody a new allowance; and
    one for all callers of the hospital.
    """

    def __init__(self, settings: RateSettings) -> None:
        self._settings = settings
        self._all = Bucket(settings.hospital_per_second, settings.hospital_burst, time.monotonic())
        self._callers: OrderedDict[Claims, Bucket] = OrderedDict()

    def admit(self, claims: Claims) -> None:
        """Raises Problem TOO_MANY_REQUESTS with ``Retry-After``, the caller's own excess costing the others nothing."""
        now = time.monotonic()
        own = self._of(claims, now)
        wait = own.take(now)
        if not wait and (wait := self._all.take(now)):
            own.give_back()
        if wait:
            raise Problem(Code.TOO_MANY_REQUESTS, headers={"Retry-After": str(math.ceil(wait))})

    def _of(self, claims: Claims, now: float) -> Bucket:
        bucket = self._callers.get(claims)
        if bucket is None:
            bucket = Bucket(self._settings.token_per_second, self._settings.token_burst, now)
            self._callers[claims] = bucket
            if len(self._callers) > MOST_CALLERS:
                self._callers.popitem(last=False)
        else:
            self._callers.move_to_end(claims)
        return bucket
