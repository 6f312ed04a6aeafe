"""The supervisor starts what it is told, with just the environment it is told, and brings back what dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emr_deploy.supervisor import Program, Supervisor, SupervisorFailed
from emr_network.home import Home

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(name="supervisor")
def _supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(Home(tmp_path))
    yield supervisor
    supervisor.shut_down()


@pytest.fixture(name="running", scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """One for tests that leave it running: to start and to end takes it seconds."""
    supervisor = Supervisor(Home(tmp_path_factory.mktemp("running")))
    yield supervisor
    supervisor.shut_down()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _run(supervisor: Supervisor, program: Program) -> None:
    supervisor.start([program])
    supervisor.launch([program.name])
    _until(lambda: supervisor.process(program.name).is_running)


def test_a_process_that_is_killed_is_started_again(running: Supervisor) -> None:
    _run(running, Program("killed", SLEEPER))
    killed = running.process("killed").pid
    os.kill(killed, signal.SIGKILL)
    _until(lambda: running.process("killed").is_running and running.process("killed").pid != killed)


def test_a_process_that_is_stopped_stays_so_until_it_is_launched(running: Supervisor) -> None:
    _run(running, Program("stopped", SLEEPER))
    running.stop(["stopped"])
    assert running.process("stopped").is_ended
    running.stop(["stopped"])
    running.launch(["stopped"])
    _until(lambda: running.process("stopped").is_running)
    running.launch(["stopped"])


def test_nothing_starts_by_itself(running: Supervisor) -> None:
    running.start([Program("idle", SLEEPER)])
    assert running.process("idle").state == "STOPPED"


AWKWARD = {
    "EMR_PERCENT": "100%(here)s",
    "EMR_LIST": '["a", "b"]',
    "EMR_COMMAS": "one,two = three;four",
    "EMR_SPACES": "  kept inside  x",
}


def test_every_value_arrives_as_it_was_told(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMR_HTTP__PORT", "1")
    monkeypatch.setenv("EMR_STRAY", "meant for another process")
    printing = "import os,json,time; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('EMR_')}))"
    program = Program("printer", [sys.executable, "-c", f"{printing}; time.sleep(600)"], AWKWARD)
    _run(supervisor, program)
    import json

    assert json.loads((tmp_path / "logs" / "printer.log").read_text()) == AWKWARD


def test_a_word_that_the_configuration_cannot_say_is_refused(supervisor: Supervisor) -> None:
    with pytest.raises(SupervisorFailed, match="cannot say"):
        supervisor.start([Program("x", ["echo", "both ' and \""])])


def test_the_environment_is_in_a_file_for_its_owner_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start([Program("idle", SLEEPER, {"EMR_X": "1"})])
    assert (tmp_path / "supervisor" / "supervisord.conf").stat().st_mode & 0o777 == 0o600


def test_programs_come_and_go_while_it_runs(running: Supervisor) -> None:
    one, two = Program("one", SLEEPER), Program("two", SLEEPER)
    _run(running, one)
    first = running.process("one").pid
    running.start([one, two])
    running.launch(["two"])
    _until(lambda: running.process("two").is_running)
    assert running.process("one").pid == first
    running.start([one])
    assert [process.name for process in running.processes()] == ["one"]


def test_a_shutdown_leaves_no_process_behind(supervisor: Supervisor) -> None:
    _run(supervisor, Program("sleeper", SLEEPER))
    pid = supervisor.process("sleeper").pid
    assert supervisor.shut_down()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not supervisor.shut_down()
    with pytest.raises(SupervisorFailed, match="emr up"):
        supervisor.processes()


def test_what_a_killed_supervisor_leaves_behind_is_ended(supervisor: Supervisor, tmp_path: Path) -> None:
    _run(supervisor, Program("sleeper", SLEEPER))
    pid = supervisor.process("sleeper").pid
    os.kill(int((tmp_path / "supervisor" / "supervisord.pid").read_text()), signal.SIGKILL)
    _until(lambda: not supervisor.is_running())
    os.kill(pid, 0)
    assert supervisor.end_orphans() == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_deep_folder_does_not_make_the_socket_unusable(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    supervisor = Supervisor(Home(deep))
    try:
        _run(supervisor, Program("sleeper", SLEEPER))
    finally:
        assert supervisor.shut_down()
