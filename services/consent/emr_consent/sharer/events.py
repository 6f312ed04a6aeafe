"""Events of the ledger from Kafka, as a faust stream: they wake the worker and hold no state of their own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import faust
import structlog
from emr_common import streams
from emr_common.settings import KafkaSettings
from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import LedgerEvent, decode

SESSION_SECONDS = 10.0
"""After that a killed sharer's partitions are its successor's; faust's own default is a minute."""

log = structlog.get_logger(__name__)


class Wakeups:
    """Reads from the newest event on: what was missed before, the worker's sweep finds."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._on_event: Callable[[LedgerEvent], None] = lambda _: None
        self._app: Any = None
        self._has_started = False

    @asynccontextmanager
    async def running(self, on_event: Callable[[LedgerEvent], None]) -> AsyncIterator[Self]:
        self._on_event = on_event
        with tempfile.TemporaryDirectory(prefix="emr-sharer-") as folder:  # faust wants one; nothing is kept in it
            self._app = self._stream(folder)
            async with streams.running(self._app):
                self._has_started = True
                yield self

    async def until_failure(self) -> None:
        """While it runs. Raises why no more events come."""
        await streams.until_crash(self._app)

    async def is_consuming(self) -> bool:
        """Never asks faust before it has started: it would make its consumer too early."""
        return self._has_started and bool(self._app.started and self._app.consumer.assignment())

    def _stream(self, folder: str) -> Any:
        app = faust.App(
            f"{self._settings.topic_prefix}-sharer",
            broker=[f"kafka://{server}" for server in self._settings.bootstrap_servers],
            value_serializer="raw",
            key_serializer="raw",
            datadir=folder,
            store="memory://",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="latest",
            stream_wait_empty=False,
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=SESSION_SECONDS / 4,
        )
        app.transport = streams.Transport(app)
        topic = app.topic(self._settings.topics.events, value_type=bytes, key_type=bytes)
        app.agent(topic, name="wake")(self._consume)
        return app

    async def _consume(self, records: Any) -> None:
        async for record in records:
            self._wake(record)

    def _wake(self, record: bytes) -> None:
        try:
            message = decode(record)
        except ValueMalformed:
            log.error("event_malformed")
            return
        if isinstance(message, LedgerEvent):
            self._on_event(message)
