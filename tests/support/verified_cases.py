"""What a conformance run has shown, as the page `docs/verified-on-fabric.md`, and how much of it a run had to skip."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emr_network.fabric.programs import Programs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verified-on-fabric.md"
OUTCOMES = ("passed", "failed", "error", "skipped")
LEDGERS = {"devnet": "devnet", "fabric": "official", "official": "official"}
"""The parameters of fixtures that run a case on both, and the column that each stands for."""
OFFICIAL_ALONE = frozenset({"test_administration.py", "test_killed_administration.py", "test_several_peers.py"})
"""Files of tests/conformance whose cases have no such parameter: they run on official programs only."""
MISSING_PROGRAMS = re.compile(r"FABRIC_BIN")

Stats = Mapping[str, Sequence[Any]]
"""Outcome to reports, as pytest's terminal reporter keeps them."""


@dataclass(frozen=True)
class Result:
    """`file` and `case` without parameters; `ledger` is "devnet" or "official"."""

    file: str
    case: str
    ledger: str
    outcome: str


def skipped_for_missing_programs(stats: Stats) -> int:
    return sum(MISSING_PROGRAMS.search(str(report.longrepr)) is not None for report in stats.get("skipped", ()))


def results_of(stats: Stats) -> list[Result]:
    return [_result(report.nodeid, outcome) for outcome in OUTCOMES for report in stats.get(outcome, ())]


def write_page(results: Iterable[Result]) -> None:
    """Raises ProgramsMissing."""
    PAGE.write_text(page(list(results), versions(), datetime.now(UTC)), encoding="utf-8")


def versions() -> dict[str, str]:
    return {
        "Fabric peer and orderer": Programs.find().version(),
        "fabric-ca": _fabric_ca_version(),
        "hlf": importlib.metadata.version("hlf"),
        "devnet": importlib.metadata.version("hlf-devnet"),
        "Python": platform.python_version(),
    }


def page(results: Sequence[Result], used: Mapping[str, str], at: datetime) -> str:
    totals = {ledger: _told([one for one in results if one.ledger == ledger]) for ledger in ("devnet", "official")}
    lines = [
        "# Verified on Fabric",
        "",
        "The same cases, run on devnet and on Hyperledger Fabric's own peers, orderer and certificate authority. `make",
        "conformance` writes this page from its results; nobody edits it. A case with several parameters counts each.",
        "",
        "| | |",
        "|---|---|",
        f"| Date | {at:%Y-%m-%d} |",
        *(f"| {name} | {version} |" for name, version in used.items()),
        f"| On devnet | {totals['devnet']} |",
        f"| On Fabric | {totals['official']} |",
    ]
    for file in sorted({one.file for one in results}):
        lines += ["", f"## {file}", "", "| Case | devnet | Fabric |", "|---|---|---|"]
        lines += _rows([one for one in results if one.file == file])
    return "\n".join(lines) + "\n"


def _rows(results: Sequence[Result]) -> Iterable[str]:
    for case in sorted({one.case for one in results}):
        of_case = [one for one in results if one.case == case]
        columns = [_told([one for one in of_case if one.ledger == ledger]) for ledger in ("devnet", "official")]
        yield f"| {case} | {columns[0]} | {columns[1]} |"


def _told(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return results[0].outcome
    counts = Counter(one.outcome for one in results)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]) or "–"


def _result(nodeid: str, outcome: str) -> Result:
    file, _, test = nodeid.partition("::")
    name, _, parameters = test.partition("[")
    named = [LEDGERS[part] for part in re.split(r"[-\]]", parameters) if part in LEDGERS]
    case = name.removeprefix("test_").replace("_", " ")
    otherwise = "official" if Path(file).name in OFFICIAL_ALONE else "devnet"
    return Result(file, case, named[0] if named else otherwise, outcome)


def _fabric_ca_version() -> str:
    program = shutil.which("fabric-ca-server", path=os.environ.get("FABRIC_BIN"))
    if program is None:
        return "not there"
    told = subprocess.run([program, "version"], capture_output=True, text=True, check=True, timeout=30).stdout
    found = re.search(r"Version:\s*(\S+)", told)
    return found.group(1) if found else "unknown"
