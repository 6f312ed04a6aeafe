"""Mutations of messages, told so that they can be repeated: on another network, with other certificates.

A recipe names a kind of message, what happens at which places of a freshly made valid one, and who signs it again
afterwards. One line of JSON: {"kind": …, "edits": [[path, operation, arguments …] …], "sign": …}.
"""

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from fuzz.layout import Nested, changed
from fuzz.wire import BYTES, FIXED32, FIXED64, VARINT, Field

SIGN: Final = ("nobody", "caller", "everybody")
"""Who signs again after the edits: nobody; who calls; endorsers as well."""
NUMBERS: Final = (0, 1, 2, 3, 7, 13, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
LENGTHS: Final = (1_000, 70_000, 1_000_000)
UNKNOWN_FIELD: Final = 1999
MAX_CUT: Final = 12

Edit = tuple[Any, ...]
"""Path, name of an operation, its arguments. The empty path is the whole message, which can only be spliced."""


@dataclass(frozen=True)
class Recipe:
    kind: str
    edits: tuple[Edit, ...]
    sign: str = "nobody"

    def line(self, **answers: str) -> str:
        content = {"kind": self.kind, "edits": self.edits, "sign": self.sign, **answers}
        return json.dumps(content, separators=(",", ":"))


def parse_line(line: str) -> tuple[Recipe, dict[str, str]]:
    """The recipe, and the answers that were recorded with it."""
    content = json.loads(line)
    recipe = Recipe(content.pop("kind"), tuple(map(tuple, content.pop("edits"))), content.pop("sign"))
    return recipe, content


def apply(edit: Edit, message: Any, encoded: bytes, nested: Nested) -> bytes:
    """Raises Inapplicable where the message has no such place."""
    path, operation, *arguments = edit
    if not path:
        return spliced(encoded, *arguments)
    return changed(message, encoded, path, nested, lambda field: operated(field, operation, arguments))


def operated(field: Field, operation: str, arguments: list[Any]) -> list[Field]:
    number, content = field.number, _content(field)
    match operation:
        case "drop":
            return []
        case "twice":
            return [field, field]
        case "empty":
            return [Field(number, BYTES, b"")]
        case "splice":
            return [Field(number, BYTES, spliced(content, *arguments))]
        case "long":
            return [Field(number, BYTES, b"x" * arguments[0])]
        case "number":
            return [Field(number, VARINT, arguments[0])]
        case "fixed":
            width = arguments[0]
            return [Field(number, FIXED64 if width == 8 else FIXED32, content[:width].ljust(width, b"\0"))]
        case "unknown":
            return [field, Field(UNKNOWN_FIELD, BYTES, b"unknown")]
        case "set":
            return [Field(number, BYTES, arguments[0])]
    raise ValueError(f"no operation {operation}")


def spliced(content: bytes, place: float, cut: int, new: str) -> bytes:
    """`new`, in hex, instead of `cut` bytes at `place` (0 to 1 of the length)."""
    start = int(place * len(content))
    return content[:start] + bytes.fromhex(new) + content[start + cut :]


def random_edit(chance: random.Random, path: str) -> Edit:
    operation = chance.choices(
        ["splice", "drop", "twice", "empty", "number", "fixed", "unknown", "long"], [8, 3, 2, 3, 3, 1, 1, 0.3]
    )[0]
    if not path or operation == "splice":
        new = chance.randbytes(chance.choice((0, 1, 1, 2, 6))).hex()
        return path, "splice", round(chance.random(), 4), chance.randrange(MAX_CUT), new
    arguments = {"number": NUMBERS, "fixed": (4, 8), "long": LENGTHS}.get(operation)
    return (path, operation) if arguments is None else (path, operation, chance.choice(arguments))


def _content(field: Field) -> bytes:
    return field.value if isinstance(field.value, bytes) else field.value.to_bytes(8, "little")
