"""All the wiring of the consent service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from emr_common.auth import Authenticator
from emr_common.emr_keys import EmrKeys
from emr_common.foundation import foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.own_keys import OwnKeys
from emr_common.positions import Positions
from emr_common.readiness import Readiness
from emr_common.sealing import WrappingKey
from emr_common.transactions import TransactionStore

from emr_consent.changes import ChangeStore
from emr_consent.events import Feed
from emr_consent.previews import Previews
from emr_consent.settings import ConsentSettings
from emr_consent.store import SharingStore


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

    def leave(self) -> None:
        """Ends what would go on without end."""
        self.feed.close()


@asynccontextmanager
async def bootstrap(settings: ConsentSettings) -> AsyncIterator[Services]:
    async with foundation(settings) as base, Feed(ChangeStore(base.engine)).running() as feed:
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
            previews=Previews(base.ledger, keys, base.access_log),
            feed=feed,
        )
