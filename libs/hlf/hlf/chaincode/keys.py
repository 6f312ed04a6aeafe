"""Ranges of keys. Composite keys sort before plain ones, and neither kind of range reaches into the other."""

from collections.abc import Sequence

from hlf.blocks.composite_keys import MAX_RUNE, SEPARATOR, composite_key, split_composite_key

__all__ = ["FIRST_PLAIN_KEY", "composite_key", "partial_range", "plain_range", "split_composite_key"]

FIRST_PLAIN_KEY = "\x01"
"""Where a range without a start begins: after all composite keys."""


def partial_range(object_type: str, attributes: Sequence[str]) -> tuple[str, str]:
    """Start (included) and end (excluded) of the composite keys that begin with these parts."""
    start = composite_key(object_type, attributes)
    return start, start + MAX_RUNE


def plain_range(start: str, end: str) -> tuple[str, str]:
    """A range of plain keys. ValueError when a bound is a composite key."""
    if start.startswith(SEPARATOR) or end.startswith(SEPARATOR):
        raise ValueError("a range of plain keys cannot begin or end with a composite key")
    return start or FIRST_PLAIN_KEY, end
