"""The blocks of LevelDB's table files, in which official peers and orderers keep state, history and private data:
unpacked, since compressed text is found by no search. Formats: LevelDB `doc/table_format.md`, Snappy
`format_description.txt`."""

from __future__ import annotations

from collections.abc import Iterator

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5
SNAPPY = 1


def table_blocks(table: bytes) -> list[bytes]:
    """The data blocks of a table file. ValueError if it is none."""
    if len(table) < FOOTER_BYTES or int.from_bytes(table[-8:], "little") != MAGIC:
        raise ValueError("no table of LevelDB")
    footer = table[-FOOTER_BYTES:]
    _, position = _handle(footer, 0)
    index, _ = _handle(footer, position)
    return [_block(table, _handle(value, 0)[0]) for value in _values(_block(table, index))]


def _block(table: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    content = table[offset : offset + size]
    return unpacked(content) if table[offset + size] == SNAPPY else content


def _values(block: bytes) -> Iterator[bytes]:
    """The values of an index block's entries, whose keys share prefixes."""
    restarts = int.from_bytes(block[-4:], "little")
    end, position = len(block) - 4 * (restarts + 1), 0
    while position < end:
        _, position = _varint(block, position)
        key_bytes, position = _varint(block, position)
        value_bytes, position = _varint(block, position)
        position += key_bytes + value_bytes
        yield block[position - value_bytes : position]


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = data[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
        shift += 7


def unpacked(packed: bytes) -> bytes:
    """What Snappy has packed."""
    _, position = _varint(packed, 0)
    found = bytearray()
    while position < len(packed):
        tag = packed[position]
        position += 1
        if tag & 3 == 0:
            length, position = _literal_length(packed, position, tag >> 2)
            found += packed[position : position + length]
            position += length
        else:
            length, back, position = _copy(packed, position, tag)
            _repeat(found, length, back)
    return bytes(found)


def _literal_length(packed: bytes, position: int, short: int) -> tuple[int, int]:
    if short < 60:
        return short + 1, position
    octets = short - 59
    return int.from_bytes(packed[position : position + octets], "little") + 1, position + octets


def _copy(packed: bytes, position: int, tag: int) -> tuple[int, int, int]:
    """Length, distance back, and where the next element is."""
    if tag & 3 == 1:
        return 4 + (tag >> 2 & 7), (tag >> 5) << 8 | packed[position], position + 1
    octets = 2 if tag & 3 == 2 else 4
    return 1 + (tag >> 2), int.from_bytes(packed[position : position + octets], "little"), position + octets


def _repeat(found: bytearray, length: int, back: int) -> None:
    """A copy may reach into what it makes itself."""
    start = len(found) - back
    if back >= length:
        found += found[start : start + length]
    else:
        found += (bytes(found[start:]) * (length // back + 1))[:length]
