"""Supervisor 4, which keeps a log file for each of our processes and brings back any that dies: how it is told what.

It listens on a Unix socket of mode 0700 only. It starts nothing by itself: the order of a start is ours (`system.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from emr_network.home import Home

LONGEST_SOCKET_PATH = 100  # Linux takes 107 bytes
MARK = "CARELEDGER_HOME"  # in the environment of every supervised process
START_SECONDS = 15.0
STOP_SECONDS = 60.0
NO_SUCH_PROCESS, NOT_RUNNING, ALREADY_STARTED = 10, 70, 60  # supervisor.xmlrpc.Faults


class SupervisorFailed(Exception):
    """The supervisor does not start, or refuses what it is asked for."""


@dataclass(frozen=True)
class Program:
    """A process to be supervised. `environment` is all that it gets beside the few variables of `_inherited`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop_signal: str = "TERM"
    stop_seconds: int = 20


@dataclass(frozen=True)
class ProcessState:
    name: str
    state: str
    """Supervisor's word: RUNNING, STOPPED, BACKOFF, EXITED, FATAL, STARTING, STOPPING."""
    pid: int
    started_at: int
    said: str

    @property
    def is_running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def is_ended(self) -> bool:
        return self.state in {"STOPPED", "EXITED", "FATAL"}


class Supervisor:
    """The supervisor of one EMR_HOME."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.root / "supervisor"

    @property
    def _socket(self) -> str:
        """In EMR_HOME, or where that path is too long for a socket, in a folder of the user's own under /tmp."""
        path = str(self._folder / "supervisor.sock")
        if len(path.encode()) <= LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(path.encode()).hexdigest()[:16]
        return str(Path(tempfile.gettempdir()) / f"careledger-{os.geteuid()}-{digest}" / "s.sock")

    def is_running(self) -> bool:
        try:
            return bool(self._call("getState"))
        except SupervisorFailed:
            return False

    def start(self, programs: Sequence[Program]) -> None:
        """Writes the configuration and starts the supervisor; a running one takes over what is new.

        Raises SupervisorFailed."""
        self._write(programs)
        if self.is_running():
            self._take_over()
            return
        Path(self._socket).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        done = subprocess.run(
            command,
            env={**_inherited(), MARK: str(self._home.root)},
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home.root,
        )
        if done.returncode:
            raise SupervisorFailed(f"supervisord: {(done.stderr or done.stdout).strip()}")
        _wait(self.is_running, START_SECONDS, "supervisord does not answer")

    def _take_over(self) -> None:
        """Adds and removes programs; one whose command or environment changed is left running as it was started."""
        added, _, removed = self._call("reloadConfig")[0]
        for name in removed:
            self.stop([name])
            self._call("removeProcessGroup", name)
        for name in added:
            self._call("addProcessGroup", name)

    def shut_down(self) -> bool:
        """Stops what still runs, and the supervisor itself. False when it was not running.

        All processes at the same time: supervisor's own shutdown takes a second for each of them.
        """
        if not self.is_running():
            return bool(self.end_orphans())
        self.stop([one.name for one in self.processes() if not one.is_ended])
        pid = int(self._call("getPID"))
        self._call("shutdown")
        _wait(lambda: not _is_alive(pid), STOP_SECONDS, "supervisord does not end")
        return True

    def end_orphans(self) -> int:
        """Ends what a supervisor that was itself killed left running, and says how many those were."""
        orphans = [one for one in psutil.process_iter() if _home_of(one) == str(self._home.root)]
        for orphan in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.terminate()
        _, alive = psutil.wait_procs(orphans, timeout=STOP_SECONDS / 2)
        for orphan in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()
        return len(orphans)

    def processes(self) -> list[ProcessState]:
        """Raises SupervisorFailed when the supervisor is not running."""
        return [
            ProcessState(one["name"], one["statename"], one["pid"], one["start"], one["spawnerr"] or one["description"])
            for one in self._call("getAllProcessInfo")
        ]

    def process(self, name: str) -> ProcessState:
        for one in self.processes():
            if one.name == name:
                return one
        raise SupervisorFailed(f"there is no process {name!r}")

    def launch(self, names: Sequence[str]) -> None:
        """Starts processes without waiting until they run."""
        for name in names:
            self._call("startProcess", name, False, ignore=ALREADY_STARTED)

    def stop(self, names: Sequence[str]) -> None:
        """Ends processes, all at the same time, and waits for it."""
        for name in names:
            self._call("stopProcess", name, False, ignore=NOT_RUNNING)
        for name in names:
            _wait(lambda name=name: self.process(name).is_ended, STOP_SECONDS, f"{name} does not end")

    def _call(self, method: str, *arguments: Any, ignore: int = 0) -> Any:
        try:
            with xmlrpc.client.ServerProxy("http://supervisor", transport=_SocketTransport(self._socket)) as server:
                return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == ignore:
                return None
            raise SupervisorFailed(f"{method} {' '.join(map(str, arguments))}: {fault.faultString}") from fault
        except OSError as error:
            raise SupervisorFailed("nothing is running here: start it with emr up") from error

    @property
    def _configuration(self) -> Path:
        return self._folder / "supervisord.conf"

    def _write(self, programs: Sequence[Program]) -> None:
        self._home.logs.mkdir(parents=True, exist_ok=True)
        text = "\n".join([*self._sections(), *(line for one in programs for line in self._section(one))]) + "\n"
        self._home.write_secret(self._configuration, text)

    def _sections(self) -> Iterator[str]:
        yield from ("[supervisord]", f"logfile={_escaped(self._home.logs / 'supervisord.log')}")
        yield from (f"pidfile={_escaped(self._folder / 'supervisord.pid')}", f"directory={_escaped(self._home.root)}")
        yield from ("logfile_maxbytes=5MB", "logfile_backups=1", "minfds=4096", f"childlogdir={_escaped(self._folder)}")
        if os.geteuid() == 0:
            yield "user=root"
        yield from ("[unix_http_server]", f"file={_escaped(self._socket)}", "chmod=0700")
        yield "[rpcinterface:supervisor]"
        yield "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"

    def _section(self, program: Program) -> Iterator[str]:
        yield f"[program:{program.name}]"
        yield f"command={' '.join(_quoted(word) for word in program.command)}"
        if program.environment:
            yield f"environment={','.join(f'{name}={_quoted(value)}' for name, value in program.environment.items())}"
        yield from ("autostart=false", "autorestart=true", "startsecs=1", "startretries=100")
        yield from (f"stopsignal={program.stop_signal}", f"stopwaitsecs={program.stop_seconds}", "killasgroup=true")
        yield from ("redirect_stderr=true", f"stdout_logfile={_escaped(self._home.logs / program.name)}.log")
        yield from ("stdout_logfile_maxbytes=20MB", "stdout_logfile_backups=2")


def _inherited() -> dict[str, str]:
    """What supervised processes see of this process's environment: no setting meant for another one, no credential."""
    passed = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "TMPDIR", "USER", "LOGNAME")
    inherited = {name: os.environ[name] for name in passed if name in os.environ}
    return {
        **inherited,
        "PYTHONUNBUFFERED": "1",
        "GRPC_VERBOSITY": "ERROR",
    }


def _home_of(process: psutil.Process) -> str | None:
    """The EMR_HOME of a process that a supervisor of ours started; None for all others."""
    try:
        found: str | None = process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
    return found


def _escaped(value: object) -> str:
    """Supervisor expands % in every value."""
    return str(value).replace("%", "%%")


def _quoted(word: str) -> str:
    """`word` as supervisor reads it. It knows no escape, so a word cannot hold both kinds of quotes."""
    if "\n" in word or ('"' in word and "'" in word):
        raise SupervisorFailed("a command or an environment variable holds what supervisor's configuration cannot say")
    quote = "'" if '"' in word else '"'
    return _escaped(f"{quote}{word}{quote}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _wait(condition: Any, seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SupervisorFailed(f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.05)


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _SocketConnection(self._path)
        self._connection = host, connection  # what `close` closes
        return connection


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=STOP_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise
