"""All the wiring of the consent service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from emr_common.auth import Authenticator
from emr_common.foundation import foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.positions import Positions
from emr_common.readiness import Readiness
from emr_common.transactions import TransactionStore

from emr_consent.settings import ConsentSettings
from emr_consent.store import SharingStore


@dataclass(frozen=True)
class Services:
    ledger: Ledger
    authenticator: Authenticator
    idempotency: Idempotency
    transactions: TransactionStore
    positions: Positions
    readiness: Readiness
    sharings: SharingStore


@asynccontextmanager
async def bootstrap(settings: ConsentSettings) -> AsyncIterator[Services]:
    async with foundation(settings) as base:
        yield Services(
            ledger=base.ledger,
            authenticator=base.authenticator,
            idempotency=base.idempotency,
            transactions=base.transactions,
            positions=base.positions,
            readiness=base.readiness,
            sharings=SharingStore(base.engine, settings.org_msp_id),
        )
