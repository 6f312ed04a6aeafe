"""Everything in which a running system could leave clinical content, read as a thief would: by file, row, record."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from emr_deploy.kafka import Kafka
from emr_deploy.postgres import SUPERUSER
from emr_deploy.process import Stage
from sqlalchemy.engine import make_url
from support.leveldb import table_blocks
from support.stack import Stack

Contents = list[tuple[str, bytes]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SCHEMAS_OF_POSTGRES = "'pg_catalog', 'information_schema', 'pg_toast'"


def files(folder: Path, *, but: tuple[str, ...] = ()) -> Contents:
    """All files below `folder`, except in the folders `but` directly in it. Sockets are left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] in but or not path.is_file():
            continue
        with suppress(FileNotFoundError):  # databases remove files while they are looked at
            found.append((str(path.relative_to(folder)), path.read_bytes().rstrip(b"\0")))
    return found


def databases(folder: Path) -> Contents:
    """Every value of every SQLite database below `folder`: one longer than a page stands nowhere in one piece."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_sqlite(path)]
    return [content for path in paths for content in _values(path, folder)]


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _values(path: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            where = f"{path.relative_to(folder)}:{table}"
            for row in connection.execute(f'select * from "{table}"'):
                yield where, b"\n".join(_octets(value) for value in row)
    finally:
        connection.close()


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def ledger_folder(stack: Stack, name: str) -> Contents:
    """Of a hospital's peer, by MSP id, or the `orderer`'s."""
    folder = ledger_path(stack, name)
    return files(folder) + databases(folder) + tables_of_leveldb(folder)


def ledger_path(stack: Stack, name: str) -> Path:
    if stack.ledger == "devnet":
        return stack.home.network / "devnet" / name
    return stack.home.fabric / ("orderer-1" if name == "orderer" else f"peer-{stack.hospital(name).name}")


def tables_of_leveldb(folder: Path) -> Contents:
    """A peer at work puts tables together and removes what they were made from."""
    found = []
    for path in sorted(folder.rglob("*.ldb")):
        with suppress(FileNotFoundError):
            found.append((str(path.relative_to(folder)), b"\n".join(table_blocks(path.read_bytes()))))
    return found


def other_files(stack: Stack) -> Contents:
    """EMR_HOME without the folders that are sinks of their own, and without Postgres', which is read row by row."""
    return files(stack.home.root, but=("logs", "postgres"))


async def topics(stack: Stack) -> Contents:
    """Every record of every topic, unpacked by a consumer. Kafka's own topics are read as files."""
    kafka = Kafka(stack.home, stack.system.ports)
    partitions = await _partitions(kafka.bootstrap_servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: Contents = []
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += [(record.topic, _parts(record)) for record in batch]
        return found
    finally:
        await consumer.stop()


async def _partitions(bootstrap_servers: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        described = await _described(admin)
    finally:
        await admin.close()
    return [TopicPartition(one["topic"], part["partition"]) for one in described for part in one["partitions"]]


async def _described(admin: Any) -> Any:
    """Kafka may know a topic by name before it knows its partitions."""
    while True:
        names = [name for name in await admin.list_topics() if not name.startswith("__")]
        described = await admin.describe_topics(names)
        if all(one["partitions"] and not one["error_code"] for one in described):
            return described
        await asyncio.sleep(0.1)


def _parts(record: Any) -> bytes:
    return b"\n".join([record.key or b"", record.value or b"", *(value for _, value in record.headers)])


async def tables(stack: Stack, organization: str, *, but: tuple[str, ...] = ()) -> Contents:
    """Every row of every table of a hospital's database, except in the schemas `but`; bytes as hex. And what the
    server remembers of queries."""
    async with as_superuser(stack, organization) as connection:
        found = []
        for table in await _tables(connection, but):
            rows = await connection.fetch(f"select t::text as row from {table} t")
            found.append((f"{organization}: {table}", "\n".join(row["row"] for row in rows).encode()))
        activity = await connection.fetch("select query from pg_stat_activity where pid <> pg_backend_pid()")
        return [*found, ("pg_stat_activity", "\n".join(str(row["query"]) for row in activity).encode())]


@asynccontextmanager
async def as_superuser(stack: Stack, organization: str) -> AsyncIterator[Connection]:
    """In a hospital's database, past everything that roles may not."""
    password = stack.home.secret("postgres", "superuser-password").read_text()
    own = make_url(stack.home.secret(organization, "database-url").read_text())
    url = own.set(username=SUPERUSER, password=password).render_as_string(hide_password=False)
    connection = await asyncpg.connect(url, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def _tables(connection: Connection, but: tuple[str, ...]) -> list[str]:
    """Views too: what they show is what their readers get."""
    query = f"""
        select format('%I.%I', n.nspname, c.relname) as name, n.nspname as schema
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'v', 'm') and n.nspname not in ({SCHEMAS_OF_POSTGRES}) order by 1"""
    return [row["name"] for row in await connection.fetch(query) if row["schema"] not in but]


async def metrics(stack: Stack) -> Contents:
    """What each of our services shows to whoever watches it."""
    found = []
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        for process in stack.system.processes:
            if process.stage is Stage.SERVICES:
                found.append((f"metrics of {process.name}", (await http.get(f"{process.url}/metrics")).content))
    return found
