"""All the wiring of the sharer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from emr_common.chores import chores
from emr_common.emr_keys import EmrKeys
from emr_common.foundation import connect, database, ledger_checks
from emr_common.owners_word import OwnersWord
from emr_common.positions import Positions
from emr_common.readiness import Readiness, database_answers
from emr_common.sealing import WrappingKey
from emr_common.settling import Settling
from emr_common.transactions import TransactionStore
from emr_common.vital import vital

from emr_consent.settings import SharerSettings
from emr_consent.sharer.events import Wakeups
from emr_consent.sharer.snapshots import Snapshots
from emr_consent.sharer.worker import Sharer
from emr_consent.store import SharingStore


@dataclass(frozen=True)
class Services:
    readiness: Readiness


@asynccontextmanager
async def bootstrap(settings: SharerSettings) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(database(settings))
        transactions = await stack.enter_async_context(TransactionStore(engine).running())
        ledger = await stack.enter_async_context(connect(settings.org_msp_id, settings.ledger, transactions))
        await stack.enter_async_context(chores(engine, Settling(engine, ledger, transactions).chore()))
        keys = EmrKeys(engine, WrappingKey.from_file(settings.sealing.wrapping_keyset_file))
        word = OwnersWord(engine, ledger, Positions(engine, ledger.tracker))
        store, wakeups = SharingStore(engine, settings.org_msp_id), Wakeups(settings.kafka)
        sharer = Sharer(Snapshots(ledger, keys), store, word, settings.org_msp_id, wakeups.is_consuming)
        await stack.enter_async_context(vital(sharer.run(), "sharing"))
        await stack.enter_async_context(wakeups.running(sharer.on_event))
        await stack.enter_async_context(vital(wakeups.until_failure(), "hearing of events"))
        checks = {"database": database_answers(engine), **ledger_checks(ledger), "events": wakeups.is_consuming}
        yield Services(Readiness(checks))
