"""Sixteenths of the EMRs, and what of them is compared in one statement: as much, however many there are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from emr_indexer.jobs.comparison import Among

PARTS = "0123456789abcdef"
"""EMRs by the first digit of their id; what begins otherwise is of its neighbour."""

PIECE_SUBJECTS = 1000


def part_of(subject: str) -> str:
    return PARTS[max(0, bisect_right(PARTS, subject) - 1)]


def all_pieces(subjects: int) -> list[Among]:
    """All subjects, about so many."""
    if subjects <= PIECE_SUBJECTS:
        return [Among()]
    return [piece for part in PARTS for piece in pieces(part, subjects // len(PARTS))]


def pieces(part: str, subjects: int) -> Iterator[Among]:
    """All subjects of the part, about so many, in one range of their ids or in sixteen."""
    inner = [part + digit for digit in PARTS[1:]] if subjects > PIECE_SUBJECTS else []
    lows = ["" if part == PARTS[0] else part, *inner]
    following = None if part == PARTS[-1] else PARTS[PARTS.index(part) + 1]
    for low, high in zip(lows, [*lows[1:], following], strict=True):
        yield Among(low=low, high=high)
