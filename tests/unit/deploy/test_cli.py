"""The command's exit codes and its JSON, where nothing runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

import pytest
from carebundle.core.bundle import to_json
from carebundle.history import generate_history
from emr_deploy.callers import Answer, Refused
from emr_deploy.cli import main
from emr_deploy.commands import people


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Emr(Protocol):
    def __call__(self, home: Path, *arguments: str) -> Done: ...


@pytest.fixture(name="emr")
def _emr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Emr:
    """The command without its own start, which takes a second: what it answers is the same."""

    def run(home: Path, *arguments: str) -> Done:
        monkeypatch.setenv("EMR_HOME", str(home))
        monkeypatch.setattr(sys, "argv", ["emr", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
            sys.exit(0)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, said.out, said.err)

    return run


def test_the_exit_code_is_that_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emr_deploy.cli", "network", "status"]
    environment = {**os.environ, "EMR_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("no-such-command",), 2),
        (("token", "admin"), 2),
        (("scale", "records", "--org", "a"), 2),
        (("indexer", "verify", "--org", "a", "--emr", "0" * 32), 2),
        (("status",), 3),
        (("token", "admin", "--org", "a"), 3),
        (("network", "status"), 3),
        (("logs", "records-a"), 3),
        (("logs", "../secrets"), 2),
        (("down",), 0),
    ],
)
def test_exit_codes_tell_usage_from_unavailable(
    emr: Emr, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    done = emr(tmp_path / "home", *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("given", ["admin?x", "admin#x", "../organizations", "admin/", ""])
def test_an_enrolment_id_names_no_other_path(
    emr: Emr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    asked: list[str] = []

    def refuse(_org: str, _subject: str, _method: str, path: str) -> None:
        asked.append(path)
        raise Refused(404, "STAFF_NOT_FOUND", "")

    monkeypatch.setattr(people, "_call", refuse)
    assert emr(tmp_path, "staff", "revoke", given, "--org", "a").returncode == 1
    assert [unquote(path.removeprefix("/staff/")) for path in asked] == [given]
    assert not set(asked[0].removeprefix("/staff/")) & set("/?#")


@pytest.mark.parametrize(
    ("error", "code"),
    [(IsADirectoryError(21, "Is a directory"), 1), (RecursionError("too deep"), 2), (UnicodeError("no text"), 2)],
)
def test_what_cannot_be_read_is_told_in_a_line(
    emr: Emr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(people, "_call", fail)
    done = emr(tmp_path, "staff", "revoke", "p-1", "--org", "a")
    assert (done.returncode, done.stderr) == (code, f"emr: {error}\n")


def test_an_answer_that_leads_elsewhere_is_none_that_it_is_done() -> None:
    with pytest.raises(Refused):
        Answer(307, {}).required()


def test_a_folder_that_is_not_ours_is_never_removed(emr: Emr, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = emr(tmp_path, "reset", "--yes")
    assert done.returncode == 2
    assert (tmp_path / "thesis.txt").exists()


def test_a_good_bundle_passes_the_check(emr: Emr, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(to_json(generate_history(seed=7, visits=3)))
    done = emr(tmp_path, "bundle", "check", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["one.json"]
    assert report["passes"]
    assert sum(note["is_visit"] for note in report["notes"]) == 3


def test_a_bad_bundle_fails_the_check_and_says_why_without_content(emr: Emr, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"resourceType": "Bundle", "entry": [{"resource": {"secretword": 1}}')
    done = emr(tmp_path, "bundle", "check", str(tmp_path))
    assert done.returncode == 1
    assert "broken.json" in done.stdout
    assert "secretword" not in done.stdout + done.stderr


def test_fabric_without_its_programs_is_refused_and_nothing_is_made(
    emr: Emr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABRIC_BIN", str(tmp_path))
    done = emr(tmp_path / "home", "network", "up", "--ledger", "fabric")
    assert done.returncode == 3, done.stderr
    assert "FABRIC_BIN" in done.stderr
    assert not (tmp_path / "home").exists()


def test_the_ledger_of_a_home_stays(emr: Emr, tmp_path: Path) -> None:
    made = emr(tmp_path / "home", "network", "make", "--ledger", "fabric", "--free-ports", "--json")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "home" / "network" / "chaincode" / "a.id").read_text().startswith("emr_1.0:")
    done = emr(tmp_path / "home", "network", "make", "--ledger", "devnet")
    assert done.returncode == 2
    assert "stays one" in done.stderr
