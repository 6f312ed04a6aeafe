"""The recorded recipes: one file for each kind, one line each, with what devnet and an official peer answered."""

from collections.abc import Iterable
from pathlib import Path

from fuzz.recipes import Recipe, parse_line

FOLDER = Path(__file__).parent / "corpus"
Answers = dict[str, str]
"""`devnet`, and `official` once official peers were asked."""


def recorded() -> list[tuple[Recipe, Answers]]:
    files = sorted(FOLDER.glob("*.jsonl"))
    return [parse_line(line) for file in files for line in file.read_text().splitlines()]


def write(entries: Iterable[tuple[Recipe, Answers]]) -> None:
    lines: dict[str, list[str]] = {}
    for recipe, answers in entries:
        lines.setdefault(recipe.kind, []).append(recipe.line(**answers))
    for kind, found in lines.items():
        (FOLDER / f"{kind}.jsonl").write_text("".join(f"{line}\n" for line in sorted(found)))
