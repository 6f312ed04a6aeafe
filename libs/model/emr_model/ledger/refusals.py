"""``CODE: text``: how the contract refuses, written and read in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from emr_model.ledger.codes import Code

_REFUSAL = re.compile(r"(?P<code>[A-Z][A-Z_]*): (?P<text>.*)", re.DOTALL)
_VERSION = re.compile(r"version=(?P<version>\d{1,10})", re.ASCII)


class Refused(Exception):
    """A rule says no. ``version``: for NOTE_ID_EXISTS where the note stands, for VERSION_CONFLICT and
    APPROVAL_VERSION_UNKNOWN the current version (or revision)."""

    def __init__(self, code: Code, text: str = "", *, version: int | None = None) -> None:
        self.code = code
        self.text = text or code.title
        self.version = version
        super().__init__(self.message)

    @property
    def detail(self) -> str:
        return self.text if self.version is None else f"{self.text} (version={self.version})"

    @property
    def message(self) -> str:
        return f"{self.code.name}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Refusal:
    code: Code
    text: str
    version: int | None


def parse_refusal(message: str) -> Refusal | None:
    """What a chaincode message says; None when it is none of the contract's."""
    match = _REFUSAL.fullmatch(message)
    if match is None or match["code"] not in Code.__members__:
        return None
    version = _VERSION.search(match["text"])
    return Refusal(Code[match["code"]], match["text"], int(version["version"]) if version else None)
