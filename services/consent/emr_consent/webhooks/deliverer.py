"""Tells webhooks what changed: each in the order of blocks, every event at least once, by one instance at a time.

Where a webhook stands is in Postgres and moves only once its receiver has answered 2xx: an instance that died leaves
it to the next, which tells the last event again under the same id.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter as Count
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import orjson
import structlog
from emr_common.background import BackgroundWork
from emr_common.locks import AdvisoryLocks
from prometheus_client import Counter, Gauge

from emr_consent.changes import Change, Changes, ChangeStore
from emr_consent.webhooks import signing
from emr_consent.webhooks.sending import GONE, Sender
from emr_consent.webhooks.store import Webhook, WebhookStore

POLL_SECONDS = 1.0
STATES = ("active", "failing", "disabled")
DELIVERIES = Counter("emr_webhook_deliveries_total", "Attempts to deliver an event", ["outcome"])
WEBHOOKS = Gauge("emr_webhooks", "Webhooks by how they are", ["state"])

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long is waited after a failure: the first time a second or less, then twice as long, and so on."""

    first_seconds: float = 1.0
    longest_seconds: float = 900.0
    give_up_after: timedelta = timedelta(days=3)

    def wait(self, failures: int) -> timedelta:
        """Spread out, so that many webhooks of one receiver do not come back at once."""
        longest = min(self.first_seconds * 2.0 ** min(failures, 30), self.longest_seconds)
        return timedelta(seconds=longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts


class Deliverer(BackgroundWork):
    """A piece is all that one webhook has not been told."""

    def __init__(
        self, store: WebhookStore, changes: ChangeStore, sender: Sender, locks: AdvisoryLocks, patience: Patience
    ) -> None:
        super().__init__("webhook", locks, POLL_SECONDS)
        self._store = store
        self._changes = changes
        self._sender = sender
        self._patience = patience

    async def waiting(self) -> Sequence[str]:
        count = Count(webhook.state for webhook in await self._store.all())
        for state in STATES:
            WEBHOOKS.labels(state).set(count[state])
        return await self._store.due(await self._changes.newest_block()) if count else ()

    async def do(self, name: str) -> None:
        """Until it has been told everything, an attempt failed, or an administrator has changed it."""
        is_behind = True
        while is_behind and (webhook := await self._store.find(name)) is not None and webhook.disabled_at is None:
            changes = await self._changes.after(webhook.position)
            is_behind = changes.up_to > webhook.position and await self._tell(webhook, changes)

    async def _tell(self, webhook: Webhook, changes: Changes) -> bool:
        """Whether all of it was delivered."""
        keys = await self._store.secrets(webhook.webhook_id)
        wanted = [change for change in changes.changes if change.kind in webhook.kinds]
        for change, ends_block in _with_ends(wanted):
            event_id = id_of(change)
            if event_id not in webhook.delivered and not await self._deliver(webhook, change, event_id, keys):
                return False
            if ends_block and not await self._store.reached(webhook, change.block):
                return False
        return await self._store.reached(webhook, changes.up_to)

    async def _deliver(self, webhook: Webhook, change: Change, event_id: str, keys: Sequence[bytes]) -> bool:
        body = body_of(change)
        headers = signing.headers(event_id, int(time.time()), body, keys)
        failure = await self._sender.post(webhook.url, headers, body)
        DELIVERIES.labels(_outcome(failure)).inc()
        if failure is None:
            return await self._store.told(webhook, event_id)
        await self._give_it_time(webhook, failure)
        return False

    async def _give_it_time(self, webhook: Webhook, failure: str) -> None:
        patience = self._patience
        is_over = await self._store.failed(
            webhook,
            failure,
            again_in=patience.wait(webhook.failures),
            give_up_after=timedelta() if failure == GONE else patience.give_up_after,
        )
        if is_over:
            log.error("webhook_disabled", webhook_id=webhook.webhook_id, failure=failure)
        else:
            log.info("webhook_failed", webhook_id=webhook.webhook_id, failure=failure, failures=webhook.failures + 1)


def id_of(change: Change) -> str:
    """The same whenever a change is told again, by whichever instance, to whichever webhook."""
    data = change.data
    names = ("emr_id", "recipient_msp", "number", "transaction_id")
    parts = [change.kind, data["block"], *(data[name] for name in names)]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:32]


def body_of(change: Change) -> bytes:
    document = {"type": change.kind, "block": change.data["block"], "data": orjson.Fragment(change.json)}
    return orjson.dumps(document)


def _outcome(failure: str | None) -> str:
    """A label has few values: statuses are told by their class."""
    if failure is None:
        return "delivered"
    return f"{failure[:8]}XX" if failure.startswith("STATUS_") else failure


def _with_ends(changes: Sequence[Change]) -> Iterator[tuple[Change, bool]]:
    """Each with whether it is the last of its block."""
    following: Sequence[Change | None] = [*changes[1:], None]
    for change, after in zip(changes, following, strict=True):
        yield change, after is None or after.block != change.block
