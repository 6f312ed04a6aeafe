from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_common.settings import KafkaSettings
from emr_common.telemetry import describe_failure
from support.kafka import KafkaServer, kafka_server


@pytest.fixture(scope="session", autouse=True)
def _short_failures() -> None:
    """As processes log them: structlog's own way of showing a traceback takes seconds."""
    structlog.configure(processors=[structlog.stdlib.add_log_level, describe_failure, structlog.dev.ConsoleRenderer()])


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
