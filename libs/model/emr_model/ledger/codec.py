"""Frozen dataclasses to JSON and back, strictly.

Names are camelCase on the wire. Keys are sorted and there is no white space, so that equal values are equal bytes on
every endorser. Reading refuses unknown, missing and repeated members and values of another type: what does not fit
the class was not written by this contract. A field with a default may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, cast, get_args, get_origin, get_type_hints

from emr_model.own_form import read_own_form

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)

Reader = Callable[[Any], Any]


class ValueMalformed(ValueError):
    """JSON that is not of the expected class. The text names members, never their values."""


class JsonValue:
    """Base of every value on the ledger and every answer of the contract."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to_json(self) -> bytes:
        return json.dumps(self.to_wire(), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    def to_wire(self) -> dict[str, Any]:
        """The value as plain JSON types."""
        return {_wire_name(field.name): _to_wire(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Raises :class:`ValueMalformed`."""
        return cls.from_wire(parse(text))

    @classmethod
    def from_wire(cls, value: Any) -> Self:
        """Raises :class:`ValueMalformed`."""
        read: Callable[[Any], Self] = _reader(cast(Any, cls))
        return read(value)


def parse(text: bytes | str) -> Any:
    """JSON without repeated members and without NaN or Infinity. Raises :class:`ValueMalformed`.

    Text in the one form that ``to_json`` writes is read several times faster than any other.
    """
    try:
        return read_own_form(text)
    except ValueError:
        pass  # what there is to say of it is said once, below
    try:
        return _DECODER.decode(text if isinstance(text, str) else _decoded(text))
    except (ValueError, RecursionError) as error:
        raise ValueMalformed("not JSON") from error


def _decoded(text: bytes) -> str:
    """As ``json.loads`` does."""
    return text.decode(json.detect_encoding(text), "surrogatepass")


def format_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with six digits of a second, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=512)  # a transaction's time stands in everything that it wrote
def parse_timestamp(text: str) -> datetime:
    """RFC 3339 in UTC, written with Z, at most microseconds. Raises :class:`ValueMalformed`."""
    if not _TIMESTAMP.fullmatch(text):
        raise ValueMalformed("not a timestamp in UTC")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueMalformed("not a timestamp in UTC") from error


def _to_wire(value: Any) -> Any:
    if isinstance(value, JsonValue):
        return value.to_wire()
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_to_wire(item) for item in value]
    return value


@cache
def _reader(expected: Any) -> Reader:
    if expected is datetime:
        return _read_timestamp
    if expected in (str, int, bool):
        return _plain_reader(expected)
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        return _enum_reader(expected)
    if is_dataclass(expected):
        return _dataclass_reader(expected)
    if get_origin(expected) in (Union, UnionType):
        return _optional_reader(expected)
    if get_origin(expected) is tuple:
        return _tuple_reader(expected)
    raise TypeError(f"{expected} has no JSON form")


def _plain_reader(expected: type) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not expected:
            raise ValueMalformed(f"not of type {expected.__name__}")
        return value

    return read


def _read_timestamp(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueMalformed("not a timestamp in UTC")
    return parse_timestamp(value)


def _enum_reader(expected: type[StrEnum]) -> Reader:
    members = {member.value: member for member in expected}

    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in members:
            raise ValueMalformed(f"not a {expected.__name__}")
        return members[value]

    return read


def _optional_reader(expected: Any) -> Reader:
    inner = [argument for argument in get_args(expected) if argument is not NoneType]
    if len(inner) != 1:
        raise TypeError(f"{expected} has no JSON form")
    read_inner = _reader(inner[0])
    return lambda value: None if value is None else read_inner(value)


def _tuple_reader(expected: Any) -> Reader:
    read_item = _reader(get_args(expected)[0])

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueMalformed("not an array")
        return tuple(read_item(item) for item in value)

    return read


def _dataclass_reader(expected: Any) -> Reader:
    hints = get_type_hints(expected)
    readers = {_wire_name(field.name): (field.name, _reader(hints[field.name])) for field in fields(expected)}
    required = {_wire_name(f.name) for f in fields(expected) if f.default is MISSING and f.default_factory is MISSING}

    in_order = [(name, read_member) for name, (_, read_member) in readers.items()]

    def read(value: Any) -> Any:
        if isinstance(value, dict) and len(value) == len(in_order):
            try:
                return expected(*[read_member(value[name]) for name, read_member in in_order])
            except (KeyError, ValueMalformed):
                pass  # what is wrong is said below
        return read_one_by_one(value)

    def read_one_by_one(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueMalformed("not an object")
        if value.keys() != readers.keys() and not required <= value.keys() <= readers.keys():
            raise ValueMalformed(f"members are not those of {expected.__name__}")
        members = {}
        try:
            for name, item in value.items():
                member, read_member = readers[name]
                members[member] = read_member(item)
        except ValueMalformed as error:
            raise ValueMalformed(f"{name}: {error}") from None
        return expected(**members)

    return read


@cache
def _wire_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueMalformed("a member is repeated")
    return members


def _refuse_constant(_: str) -> Any:
    raise ValueMalformed("not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
