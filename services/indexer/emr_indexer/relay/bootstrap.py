"""The relay's wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from emr_common.foundation import database
from emr_common.readiness import Readiness, database_answers
from emr_common.vital import vital

from emr_indexer.kafka import log_sparsely
from emr_indexer.peer import peer_blocks
from emr_indexer.relay.facts import BlockReader
from emr_indexer.relay.relay import Kafka, Relay, RelayState
from emr_indexer.relay.settings import RelaySettings


@dataclass(frozen=True)
class Services:
    relay: Relay
    readiness: Readiness


@asynccontextmanager
async def bootstrap(settings: RelaySettings) -> AsyncIterator[Services]:
    """A running relay. A peer, Kafka or Postgres that is not there does not stop the start: readiness says so."""
    log_sparsely()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(database(settings))
        source = await stack.enter_async_context(peer_blocks(settings.org_msp_id, settings.ledger))
        relay = Relay(
            engine,
            Kafka(settings.kafka.bootstrap_servers, settings.kafka.topics),
            settings.ledger.channel,
            source.after,
            BlockReader(settings.ledger.channel, settings.ledger.chaincode, settings.org_msp_id),
            source.one,
        )
        await stack.enter_async_context(vital(relay.run(), "relay"))

        async def relays() -> bool:
            return relay.state in (RelayState.RELAYING, RelayState.STANDING_BY)

        async def peer_delivers() -> bool:
            return source.is_delivering

        checks = {"database": database_answers(engine), "relay": relays, "peer": peer_delivers}
        yield Services(relay, Readiness(checks))
