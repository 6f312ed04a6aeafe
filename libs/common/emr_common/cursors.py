"""Cursors of lists that are read page by page: the key of a page's last row, opaque to callers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from emr_model.ledger.codes import Code

from emr_common.problems import Problem

P = TypeVar("P")


def cursor(key: Sequence[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(key)).encode()).decode()


def position(cursor: str, read: Callable[..., P]) -> P:
    """What ``read`` makes of the key's parts; it raises TypeError or ValueError for parts that are none.

    Raises Problem MALFORMED_REQUEST for a cursor that is none of ours.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(parts, list):
            raise TypeError("cursor")
        return read(*parts)
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise Problem(Code.MALFORMED_REQUEST, "the cursor is none of ours") from error
