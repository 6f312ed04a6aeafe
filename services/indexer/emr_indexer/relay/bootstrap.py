"""The relay's wiring."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from emr_common.foundation import database
from emr_common.readiness import Readiness, database_answers
from emr_common.settings import LedgerSettings
from hlf.blocks import Block, Checkpoint
from hlf.deliver import follow
from hlf.errors import DeliverError
from hlf.gateway import Endpoint, Gateway
from hlf.identity import Signer, SigningIdentity

from emr_indexer.background import background
from emr_indexer.kafka import log_sparsely
from emr_indexer.relay import metrics
from emr_indexer.relay.facts import BlockReader
from emr_indexer.relay.relay import Kafka, Relay, RelayState
from emr_indexer.relay.settings import RelaySettings

QUIET_SECONDS = 6.0

log = structlog.get_logger(__name__)


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
        signer = SigningIdentity.from_msp_dir(settings.ledger.identity_dir, settings.org_msp_id)
        source = await stack.enter_async_context(_blocks(settings.ledger, signer))
        relay = Relay(
            engine,
            Kafka(settings.kafka.bootstrap_servers, settings.kafka.topics),
            settings.ledger.channel,
            source.after,
            BlockReader(settings.ledger.channel, settings.ledger.chaincode, settings.org_msp_id),
        )
        await stack.enter_async_context(background(relay.run(), "relay"))

        async def relays() -> bool:
            return relay.state in (RelayState.RELAYING, RelayState.STANDING_BY)

        async def peer_delivers() -> bool:
            return source.is_delivering

        checks = {"database": database_answers(engine), "relay": relays, "peer": peer_delivers}
        yield Services(relay, Readiness(checks))


@asynccontextmanager
async def _blocks(settings: LedgerSettings, signer: Signer) -> AsyncIterator[PeerBlocks]:
    certificate = settings.tls_ca_file.read_bytes()
    async with Gateway([Endpoint(address, certificate) for address in settings.endpoints]) as gateway:
        yield PeerBlocks(gateway, signer, settings.channel)


@dataclass
class PeerBlocks:
    """Blocks with the hospital's own private data, from its own peers, across their restarts."""

    gateway: Gateway
    signer: Signer
    channel: str
    _failed_at_seconds: float = -math.inf

    @property
    def is_delivering(self) -> bool:
        """Whether no attempt has failed lately: while the peer is away, one does every few seconds."""
        return time.monotonic() - self._failed_at_seconds > QUIET_SECONDS

    def after(self, checkpoint: Checkpoint | None) -> AsyncIterator[Block]:
        start = 0 if checkpoint is None else checkpoint
        return follow(
            self.gateway, self.signer, self.channel, start=start, kind="private", on_failure=self._interrupted
        )

    def _interrupted(self, failure: DeliverError) -> None:
        self._failed_at_seconds = time.monotonic()
        metrics.INTERRUPTIONS.labels(type(failure).__name__).inc()
        log.warning("deliver_interrupted", exc_info=failure)
