"""Fabric's composite keys: U+0000, the object type, U+0000, and each attribute followed by U+0000.

The rules are those of the chaincode shims (fabric-chaincode-go `shim/stub.go`).
"""

from collections.abc import Iterable

SEPARATOR = "\x00"
MAX_RUNE = "\U0010ffff"


def composite_key(object_type: str, attributes: Iterable[str]) -> str:
    """ValueError if a part holds U+0000 or U+10FFFF, which would make two keys the same, or is not UTF-8."""
    parts = [object_type, *attributes]
    for part in parts:
        _check(part)
    return SEPARATOR + "".join(part + SEPARATOR for part in parts)


def split_composite_key(key: str) -> tuple[str, tuple[str, ...]]:
    """Object type and attributes. ValueError if `key` is not a composite key."""
    if len(key) < 2 or key[0] != SEPARATOR or key[-1] != SEPARATOR:
        raise ValueError("not a composite key")
    object_type, *attributes = key[1:-1].split(SEPARATOR)
    return object_type, tuple(attributes)


def _check(part: str) -> None:
    if SEPARATOR in part or MAX_RUNE in part:
        raise ValueError("a part of a composite key must hold neither U+0000 nor U+10FFFF")
    part.encode()
