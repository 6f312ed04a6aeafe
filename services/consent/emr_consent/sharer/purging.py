"""For how long the purge of an ending is due: what a hospital received must not stay once its sharing has ended."""

from __future__ import annotations

import time
from collections.abc import Callable


class PurgeClock:
    """Since when something may be there that is to be purged. What nobody could look for counts as there: a round that
    fails leaves open whether something ended since the last that did not.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._clean_at = now()
        self._since: float | None = None
        self._began_at = self._clean_at
        self._since_it_began: float | None = None

    def ended(self, at: float | None = None) -> None:
        """Something ended, ``at`` then (Unix time) or now."""
        moment = self._now() if at is None else at
        self._since = moment if self._since is None else min(self._since, moment)
        if at is None:
            self._since_it_began = self._since_it_began or moment

    def begin(self) -> None:
        """A round begins, which looks for everything that has ended until now."""
        self._began_at, self._since_it_began = self._now(), None

    def done(self) -> None:
        """The round has purged all that it looked for."""
        self._clean_at, self._since = self._began_at, self._since_it_began

    def failed(self) -> None:
        self._since = self._clean_at if self._since is None else self._since

    def seconds(self) -> float:
        """0 when nothing is due."""
        return 0.0 if self._since is None else max(self._now() - self._since, 0.0)
