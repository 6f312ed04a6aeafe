"""Canaries: strings put into clinical content, and every form in which one could be found where it must not be."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Canary:
    """`text` has characters that JSON and URLs escape; `kernel` is a part of it that nothing escapes."""

    place: str
    kernel: str

    @classmethod
    def new(cls, place: str) -> Canary:
        return cls(place, f"canary{secrets.token_hex(9)}")

    @property
    def text(self) -> str:
        return f'ß"{self.kernel}é'


@dataclass(frozen=True, order=True)
class Sighting:
    place: str
    """Where the canary belongs."""
    form: str
    where: str
    """Where it was seen."""


def forms(text: str) -> dict[str, bytes]:
    """How `text` looks, whatever stands around it: base64 at each of the three places that it can have."""
    content = text.encode()
    escaped = json.dumps(text)[1:-1]
    found = {
        "raw": content,
        "JSON": escaped.encode(),
        "JSON in UTF-8": json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        "JSON in JSON": json.dumps(escaped)[1:-1].encode(),
        "hex": content.hex().encode(),
        "HEX": content.hex().upper().encode(),
        "URL": quote(text, safe="").encode(),
    }
    for offset in range(3):
        inner = _base64(content, offset)
        found[f"base64 at {offset}"] = inner
        found[f"base64url at {offset}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def _base64(content: bytes, offset: int) -> bytes:
    """Without the characters at either end that depend on neighbours too."""
    encoded = base64.b64encode(bytes(offset) + content).rstrip(b"=")
    first = (offset * 8 + 5) // 6
    is_whole = (offset + len(content)) % 3 == 0
    return encoded[first:] if is_whole else encoded[first:-1]


class Search:
    """Looks for all forms of all canaries, and of their kernels."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._wanted = [
            (canary.place, name, form)
            for canary in canaries
            for text in (canary.text, canary.kernel)
            for name, form in forms(text).items()
        ]

    def in_all(self, contents: Iterable[tuple[str, bytes]]) -> list[Sighting]:
        """`contents` are places and what stands there."""
        return sorted({sighting for where, content in contents for sighting in self._in(where, content)})

    def _in(self, where: str, content: bytes) -> Iterator[Sighting]:
        for place, name, form in self._wanted:
            if form in content:
                yield Sighting(place, name, where)
