"""How long to wait before trying again."""

import random
from collections.abc import Iterator


def jittered(first_seconds: float = 0.05, most_seconds: float = 2.0) -> Iterator[float]:
    """Endless waiting times in seconds: each random up to a bound that doubles from `first_seconds` to `most_seconds`.

    Clients that failed together do not come back together ("full jitter").
    """
    bound = first_seconds
    while True:
        yield random.uniform(bound / 10, bound)  # noqa: S311 - spreads load, protects nothing
        bound = min(bound * 2, most_seconds)
