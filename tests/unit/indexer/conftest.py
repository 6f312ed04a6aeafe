from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_common.settings import KafkaSettings
from emr_common.telemetry import describe_failure
from emr_readmodel import engine, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.kafka import KafkaServer, kafka_server
from support.postgres import PostgresServer, empty_database, postgres_server


@pytest.fixture(scope="session", autouse=True)
def _short_failures() -> None:
    """As processes log them: structlog's own way of showing a traceback takes seconds."""
    structlog.configure(processors=[structlog.stdlib.add_log_level, describe_failure, structlog.dev.ConsoleRenderer()])


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
async def migrated(server: PostgresServer) -> AsyncIterator[str]:
    """The name of a database at the newest schema, to be copied: migrations take longer than a copy."""
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        yield url.rsplit("/", 1)[1]


@pytest.fixture
async def database(server: PostgresServer, migrated: str) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server, template=migrated) as url:
        pool = engine.create(url, 5)
        yield pool
        await pool.dispose()


@pytest.fixture(scope="session")
def wrapping(tmp_path_factory: pytest.TempPathFactory) -> WrappingKey:
    path: Path = tmp_path_factory.mktemp("keys") / "wrapping.keyset"
    path.write_text(new_wrapping_keyset())
    return WrappingKey.from_file(path)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    with kafka_server() as running:
        yield running


@pytest.fixture
def settings(kafka: KafkaServer) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=f"t{uuid4().hex[:8]}")
