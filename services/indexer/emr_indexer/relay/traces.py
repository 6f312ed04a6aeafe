"""Carrying a request's trace from its transaction on to Kafka, while traces are on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager

import sqlalchemy as sa
import structlog
from emr_common import tracing
from emr_readmodel.hospital import transaction
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)


class Traces:
    """Of the hospital's own requests: other hospitals' transactions have none here."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def publishing(self, topic: str, transaction_ids: Collection[str]) -> AsyncIterator[Mapping[str, str]]:
        """A span for each transaction while its events go to ``topic``; what their records carry, by transaction."""
        parents = await self._parents(transaction_ids) if tracing.is_on() and transaction_ids else {}
        carried: dict[str, str] = {}
        with ExitStack() as spans:
            for transaction_id, parent in parents.items():
                attributes = {"messaging.destination.name": topic, "careledger.transaction_id": transaction_id}
                spans.enter_context(tracing.span(f"publish {topic}", "producer", attributes, parent=parent))
                carried[transaction_id] = tracing.traceparent() or parent
            yield carried

    async def _parents(self, transaction_ids: Collection[str]) -> dict[str, str]:
        """Relaying does not depend on it: without Postgres there are none."""
        query = sa.select(transaction.c.transaction_id, transaction.c.traceparent).where(
            transaction.c.transaction_id.in_(transaction_ids), transaction.c.traceparent.is_not(None)
        )
        try:
            async with self._engine.connect() as connection:
                return {row[0]: row[1] for row in await connection.execute(query)}
        except (SQLAlchemyError, OSError) as error:
            log.warning("traces_not_found", exc_info=error)
            return {}
