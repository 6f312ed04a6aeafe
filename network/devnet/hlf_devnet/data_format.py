"""The format of a data folder, a number in a file of its own: what another devnet wrote is refused, not misread."""

import os
from pathlib import Path
from typing import Final

from hlf_devnet.config import ConfigError

FORMAT: Final = 2
"""Raised by whoever changes what is stored or how, the tables of SQLite included."""
FILE_NAME: Final = "FORMAT"
UNFINISHED: Final = ".FORMAT.new"


class OtherFormat(ConfigError):
    """The folder holds something else than this devnet's data. One line naming the folder; nothing in it is touched."""


def claim(folder: Path) -> None:
    """Marks a new or empty folder as one of this format; OtherFormat for any other that is not marked so."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE_NAME
    try:
        found = file.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        if any(one.name != UNFINISHED for one in folder.iterdir()):
            raise _refusal(folder, "it holds files and no format number") from None
        _write(file)
        return
    if found != str(FORMAT):
        raise _refusal(folder, f"its format is {found[:20]!r}")


def _refusal(folder: Path, reason: str) -> OtherFormat:
    return OtherFormat(
        f"{folder}: {reason}, and this devnet reads and writes format {FORMAT} only: remove the folder or name another"
    )


def _write(file: Path) -> None:
    """Whole or not at all, also when the process is killed meanwhile."""
    new = file.with_name(UNFINISHED)
    with new.open("w", encoding="ascii") as opened:
        opened.write(f"{FORMAT}\n")
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
