"""JSON in the one form that we write: several times faster to read than any other, and as strictly."""

from __future__ import annotations

from typing import Any

import orjson


def read_own_form(text: bytes | str) -> Any:
    """Compact JSON with its members in order and each of them once: what is written again gives the same text, and a
    member that was repeated would be missing then. Raises ValueError for any other text.
    """
    value = orjson.loads(text)
    try:
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # what orjson says of all that it cannot write
        raise ValueError("not in our own form") from error
    if written != (text.encode() if isinstance(text, str) else text):
        raise ValueError("not in our own form")
    return value
