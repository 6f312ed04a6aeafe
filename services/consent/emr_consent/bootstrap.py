"""All the wiring of the consent service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from emr_common.auth import Authenticator
from emr_common.emr_keys import EmrKeys
from emr_common.foundation import Foundation, foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.locks import AdvisoryLocks
from emr_common.own_keys import OwnKeys
from emr_common.owners_word import OwnersWord
from emr_common.positions import Positions
from emr_common.readiness import Readiness
from emr_common.sealing import WrappingKey
from emr_common.transactions import TransactionStore

from emr_consent.changes import ChangeStore
from emr_consent.events import Feed
from emr_consent.previews import Previews
from emr_consent.settings import ConsentSettings
from emr_consent.store import SharingStore
from emr_consent.webhooks.deliverer import Deliverer, Patience
from emr_consent.webhooks.handlers import Webhooks
from emr_consent.webhooks.sending import Sender
from emr_consent.webhooks.store import WebhookStore


@dataclass(frozen=True)
class Services:
    ledger: Ledger
    authenticator: Authenticator
    idempotency: Idempotency
    transactions: TransactionStore
    own_keys: OwnKeys
    positions: Positions
    readiness: Readiness
    sharings: SharingStore
    previews: Previews
    feed: Feed
    webhooks: Webhooks

    def leave(self) -> None:
        """Ends what would go on without end."""
        self.feed.close()


@asynccontextmanager
async def bootstrap(settings: ConsentSettings) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(foundation(settings))
        changes = ChangeStore(base.engine)
        feed = await stack.enter_async_context(Feed(changes).running())
        webhooks = await stack.enter_async_context(_webhooks(settings, base, changes))
        keys = EmrKeys(base.engine, WrappingKey.from_file(settings.sealing.wrapping_keyset_file))
        yield Services(
            ledger=base.ledger,
            authenticator=base.authenticator,
            idempotency=base.idempotency,
            transactions=base.transactions,
            own_keys=base.own_keys,
            positions=base.positions,
            readiness=base.readiness,
            sharings=SharingStore(base.engine, settings.org_msp_id),
            previews=Previews(base.ledger, keys, base.access_log, OwnersWord(base.engine, base.ledger, base.positions)),
            feed=feed,
            webhooks=webhooks,
        )


@asynccontextmanager
async def _webhooks(settings: ConsentSettings, base: Foundation, changes: ChangeStore) -> AsyncIterator[Webhooks]:
    """Events are delivered until it is left."""
    told = settings.webhooks
    patience = Patience(give_up_after=timedelta(seconds=told.give_up_after_seconds))
    store = WebhookStore(base.engine, WrappingKey.from_file(settings.wallet.keyset_file))
    async with (
        AdvisoryLocks.opened(base.engine.url, "emr_consent") as locks,
        Sender(told.allowed_networks, told.ca_file).opened() as sender,
    ):
        deliverer = Deliverer(store, changes, sender, locks, patience)
        async with deliverer.running():
            yield Webhooks(store, changes, sender, deliverer)
