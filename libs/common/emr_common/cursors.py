"""Cursors of lists that are read page by page: the key of a page's last row, opaque to callers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from emr_model.ledger.codes import Code

from emr_common.problems import Problem

P = TypeVar("P")


def cursor(key: Sequence[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(key)).encode()).decode()


def position(cursor: str, read: Callable[..., P]) -> P:
    """What ``read`` makes of the key's parts; it raises TypeError, ValueError or OverflowError for parts that are none.

    Raises Problem MALFORMED_REQUEST for a cursor that is none of ours.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(parts, list):
            raise TypeError("cursor")
        return read(*parts)
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Problem(Code.MALFORMED_REQUEST, "the cursor is none of ours, or another list's") from error


def text(part: object) -> str:
    """A part that Postgres can compare with text. Raises TypeError or ValueError."""
    if not isinstance(part, str) or "\0" in part:
        raise TypeError("cursor")
    part.encode()
    return part


def moment(part: object) -> datetime:
    """A part that is a time with its zone. Raises TypeError, ValueError or OverflowError."""
    found = datetime.fromisoformat(text(part))
    if found.tzinfo is None:
        raise ValueError("cursor")
    return found.astimezone(UTC)


def number(part: object) -> int:
    """A part that Postgres can compare with an integer. Raises TypeError or OverflowError."""
    if type(part) is not int:
        raise TypeError("cursor")
    if not -(2**31) <= part < 2**31:
        raise OverflowError("cursor")
    return part
