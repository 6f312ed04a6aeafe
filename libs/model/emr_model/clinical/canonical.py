"""Canonical JSON: one sequence of bytes for one value, with numbers exactly as they were written.

The form: keys sorted by code point, UTF-8, no white space, arrays in their order, the shortest escapes. FHIR's ``1.0``
is not ``1``, so numbers with a fraction or exponent are ``Decimal`` and never ``float``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import chain
from json.encoder import encode_basestring
from typing import Any, NoReturn, TypeAlias

from emr_model.clinical.errors import CanonicalJsonError
from emr_model.clinical.limits import (
    JSON_MAX_DEPTH,
    JSON_MAX_ITEMS,
    JSON_MAX_MEMBERS,
    NUMBER_MAX_CHARACTERS,
    NUMBER_MAX_EXPONENT,
)
from emr_model.own_form import read_own_form

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose values are None, bool, int, Decimal, str, list or another such object."""


def parse(data: bytes) -> Any:
    """The value of strict JSON: no duplicate keys, NaN, lone surrogates, NUL, nesting beyond ``JSON_MAX_DEPTH``, or
    objects and arrays with more members than ``JSON_MAX_MEMBERS`` and ``JSON_MAX_ITEMS``.

    Raises CanonicalJsonError, whose text says what is wrong but nothing of the content.
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise CanonicalJsonError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise CanonicalJsonError(f"not JSON: line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise CanonicalJsonError("nested too deeply") from None
    if _may_be_unbounded(data):
        _refuse_unbounded(value)
    if _ESCAPE in text:  # as they are, JSON has neither NUL nor UTF-8 a surrogate
        _refuse_unstorable_strings(value)
    return value


def parse_object(data: bytes) -> JsonObject:
    """Like ``parse``; anything but an object at the top raises CanonicalJsonError."""
    value = parse(data)
    if not isinstance(value, dict):
        raise CanonicalJsonError("not a JSON object")
    return value


def parse_texts(data: bytes) -> JsonObject:
    """Like ``parse_object``, three times as fast for canonical bytes, for who wants no numbers: some are ``float``."""
    try:
        value = read_own_form(data)
    except ValueError:
        return parse_object(data)  # which says what is wrong
    if not isinstance(value, dict) or b"\\u" in data:
        return parse_object(data)
    if _may_be_unbounded(data):
        _refuse_unbounded(value)
    return value


def canonical_bytes(value: Any) -> bytes:
    """The canonical form of a value that ``parse`` returned, or of one built from the same types.

    Raises CanonicalJsonError for a float, a Decimal that is not finite, a key that is not text, and a lone surrogate.
    """
    try:
        return "".join(_pieces(value)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalJsonError("a string has a lone surrogate") from error
    except RecursionError:
        raise CanonicalJsonError("nested too deeply") from None


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield encode_basestring(value)
    elif isinstance(value, dict):
        yield from _object_pieces(value)
    elif isinstance(value, list):
        yield from _array_pieces(value)
    else:
        yield _scalar(value)


def _object_pieces(value: JsonObject) -> Iterator[str]:
    if not all(isinstance(key, str) for key in value):
        raise CanonicalJsonError("an object's key is not text")
    separator = "{"
    for key in sorted(value):
        yield f"{separator}{encode_basestring(key)}:"
        yield from _pieces(value[key])
        separator = ","
    yield "}" if value else "{}"


def _array_pieces(value: Iterable[Any]) -> Iterator[str]:
    separator = ""
    yield "["
    for item in value:
        yield separator
        yield from _pieces(item)
        separator = ","
    yield "]"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    raise CanonicalJsonError(f"a {type(value).__name__} has no canonical form")


def _may_be_unbounded(data: bytes) -> bool:
    """Many notes are too short, which is cheaper to see than how deep and long they are."""
    return data.count(b",") >= JSON_MAX_MEMBERS or data.count(b"{") + data.count(b"[") > JSON_MAX_DEPTH


def _refuse_unbounded(value: Any) -> None:
    depth, level = 0, _containers([value])
    while level:
        depth += 1
        if depth > JSON_MAX_DEPTH:
            raise CanonicalJsonError("nested too deeply")
        if any(len(item) > (JSON_MAX_MEMBERS if isinstance(item, dict) else JSON_MAX_ITEMS) for item in level):
            raise CanonicalJsonError("an object or array is too long")
        level = _containers(chain.from_iterable(each.values() if isinstance(each, dict) else each for each in level))


def _containers(values: Iterable[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, (dict, list))]


def _refuse_unstorable_strings(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            _refuse_unstorable(item)
        elif isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _refuse_unstorable(text: str) -> None:
    if "\x00" in text:
        raise CanonicalJsonError("a string has the character NUL")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CanonicalJsonError("a string has a lone surrogate") from error


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise CanonicalJsonError("an object has the same key twice")
    return value


def _integer(literal: str) -> int | Decimal:
    _refuse_long(literal)
    return Decimal(literal) if literal == "-0" else int(literal)


def _decimal(literal: str) -> Decimal:
    _refuse_long(literal)
    try:
        number = Decimal(literal)
    except InvalidOperation:
        raise CanonicalJsonError("a number is out of range") from None
    if "e" in literal or "E" in literal:  # without one, no more digits than a literal may have
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or abs(exponent) > NUMBER_MAX_EXPONENT:
            raise CanonicalJsonError("a number is out of range")
    return number


def _refuse_long(literal: str) -> None:
    if len(literal) > NUMBER_MAX_CHARACTERS:
        raise CanonicalJsonError("a number is too long")


def _constant(literal: str) -> NoReturn:
    raise CanonicalJsonError("NaN and Infinity are not JSON")


_ESCAPE = "\\u"
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates, parse_float=_decimal, parse_int=_integer, parse_constant=_constant
)
