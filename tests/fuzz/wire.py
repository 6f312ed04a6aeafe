"""Protobuf's wire format, as far as changing encoded messages needs it: fields in the order in which they stand."""

from dataclasses import dataclass
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
MAX_VARINT_BYTES: Final = 10


class Malformed(ValueError):
    """Not a sequence of fields."""


@dataclass(frozen=True, slots=True)
class Field:
    """`value` is an int for VARINT, bytes for every other wire type."""

    number: int
    wire_type: int
    value: int | bytes

    def encode(self) -> bytes:
        tag = varint(self.number << 3 | self.wire_type)
        if isinstance(self.value, int):
            return tag + varint(self.value)
        return tag + (varint(len(self.value)) if self.wire_type == BYTES else b"") + self.value


def varint(number: int) -> bytes:
    """Of a number in [0, 2^64)."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encode(fields: list[Field]) -> bytes:
    return b"".join(field.encode() for field in fields)


def fields_of(encoded: bytes) -> list[Field]:
    """Raises Malformed."""
    found, position = [], 0
    while position < len(encoded):
        tag, position = _varint(encoded, position)
        wire_type = tag & 7
        value: int | bytes
        if wire_type == VARINT:
            value, position = _varint(encoded, position)
        elif wire_type in (BYTES, FIXED64, FIXED32):
            length = 8 if wire_type == FIXED64 else 4
            if wire_type == BYTES:
                length, position = _varint(encoded, position)
            value = encoded[position : position + length]
            position += length
            if position > len(encoded):
                raise Malformed("a value ends after its message")
        else:
            raise Malformed(f"wire type {wire_type}")
        found.append(Field(tag >> 3, wire_type, value))
    return found


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    result = 0
    for index in range(MAX_VARINT_BYTES):
        if position + index >= len(encoded):
            raise Malformed("a number ends after its message")
        byte = encoded[position + index]
        result |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return result, position + index + 1
    raise Malformed("a number is too long")
