"""The hospital's own peers: blocks with the hospital's private data, across their restarts."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import structlog
from emr_common.settings import LedgerSettings
from hlf.blocks import Block, Checkpoint
from hlf.deliver import deliver, follow
from hlf.errors import DeliverError
from hlf.gateway import Endpoint, Gateway
from hlf.identity import Signer, SigningIdentity

from emr_indexer.relay import metrics

QUIET_SECONDS = 8.0

log = structlog.get_logger(__name__)


@dataclass
class PeerBlocks:
    """Blocks are checked against the chain: number, link and data hash."""

    gateway: Gateway
    signer: Signer
    channel: str
    _failed_at_seconds: float = -math.inf

    @property
    def is_delivering(self) -> bool:
        """Whether no attempt has failed lately: while the peer is away, one does every few seconds."""
        return time.monotonic() - self._failed_at_seconds > QUIET_SECONDS

    def after(self, checkpoint: Checkpoint | None) -> AsyncIterator[Block]:
        """Without end."""
        start = 0 if checkpoint is None else checkpoint
        return follow(
            self.gateway, self.signer, self.channel, start=start, kind="private", on_failure=self._interrupted
        )

    async def up_to(self, last: int, after: Checkpoint | None = None) -> AsyncIterator[Block]:
        """From block 0, or after a checkpoint, to block ``last``. Raises DeliverError when the chain is broken."""
        if after is not None and after.block_number >= last:
            return
        async with aclosing(self.after(after)) as blocks:  # type: ignore[type-var]
            async for block in blocks:
                yield block
                if block.number >= last:
                    return

    async def one(self, number: int) -> Block:
        """A block as the peer has it now, with the private data that it has now. Raises DeliverError."""
        stream = deliver(self.gateway, self.signer, self.channel, start=number, stop=number, kind="private")
        async with aclosing(stream) as blocks:
            async for block in blocks:
                return block
        raise DeliverError(f"the peer did not deliver block {number}", retriable=True)

    async def last(self) -> int:
        """The number of the newest block. Raises DeliverError."""
        async with aclosing(deliver(self.gateway, self.signer, self.channel, kind="full")) as blocks:
            async for block in blocks:
                return block.number
        raise DeliverError("the peer did not deliver its newest block", retriable=True)

    def _interrupted(self, failure: DeliverError) -> None:
        self._failed_at_seconds = time.monotonic()
        metrics.INTERRUPTIONS.labels(type(failure).__name__).inc()
        log.warning("deliver_interrupted", exc_info=failure)


@asynccontextmanager
async def peer_blocks(msp_id: str, settings: LedgerSettings) -> AsyncIterator[PeerBlocks]:
    """By the hospital's own service identity."""
    signer = SigningIdentity.from_msp_dir(settings.identity_dir, msp_id)
    certificate = settings.tls_ca_file.read_bytes()
    async with Gateway([Endpoint(address, certificate) for address in settings.endpoints]) as gateway:
        yield PeerBlocks(gateway, signer, settings.channel)
