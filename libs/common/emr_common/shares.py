"""How much of something limited is in use, and how much of it is whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Shares(Generic[K]):
    """``in_use`` is everybody's together; what is taken for None is nobody's own. Who uses nothing takes no memory."""

    def __init__(self) -> None:
        self.in_use = 0
        self._by_caller: Counter[K] = Counter()

    def of(self, caller: K | None) -> int:
        return 0 if caller is None else self._by_caller[caller]

    def take(self, caller: K | None, count: int = 1) -> None:
        self.in_use += count
        if caller is not None:
            self._by_caller[caller] += count
            if not self._by_caller[caller]:
                del self._by_caller[caller]

    def give_back(self, caller: K | None, count: int = 1) -> None:
        self.take(caller, -count)
