"""All the wiring of the records service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from emr_common.access_log import AccessLog
from emr_common.auth import Authenticator
from emr_common.emr_keys import EmrKeys
from emr_common.foundation import Foundation, foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.locks import AdvisoryLocks
from emr_common.own_keys import OwnKeys
from emr_common.owners_word import OwnersWord
from emr_common.positions import Positions
from emr_common.queued_notes import QueuedNotes
from emr_common.readiness import Readiness
from emr_common.sealing import SealingPrivateKey, WrappingKey
from emr_common.settings import SettingsInvalid
from emr_common.transactions import TransactionStore

from emr_records.content import OwnContent
from emr_records.disclosures import Disclosures
from emr_records.history import HistoryStore
from emr_records.imports import ImportWorker
from emr_records.notes import KnownEmrs, NoteIds, NoteWriter
from emr_records.queue import QueueWorker
from emr_records.readable.process import Typesetter
from emr_records.searching import SearchStore
from emr_records.settings import RecordsSettings
from emr_records.store import ImportStore

SHORTEST_KEY_BYTES = 32


@dataclass(frozen=True)
class Services:
    ledger: Ledger
    authenticator: Authenticator
    idempotency: Idempotency
    transactions: TransactionStore
    own_keys: OwnKeys
    access_log: AccessLog
    positions: Positions
    readiness: Readiness
    content: OwnContent
    known_emrs: KnownEmrs
    writer: NoteWriter
    searches: SearchStore
    history: HistoryStore
    typesetter: Typesetter
    imports: ImportStore
    import_worker: ImportWorker
    queued_notes: QueuedNotes
    queue_worker: QueueWorker
    disclosures: Disclosures
    identifier_systems: tuple[str, ...]
    identifier_key: bytes | None


@asynccontextmanager
async def bootstrap(settings: RecordsSettings) -> AsyncIterator[Services]:
    async with foundation(settings) as base, services(settings, base) as wired:
        yield wired


@asynccontextmanager
async def services(settings: RecordsSettings, base: Foundation) -> AsyncIterator[Services]:
    """What this service has on its foundation. Imports and queued notes are worked on until it is left."""
    note_ids = NoteIds(_secret_key(settings.pseudonym.key_file))
    private_key = _private_key(settings)
    wrapping = WrappingKey.from_file(settings.sealing.wrapping_keyset_file)
    async with AdvisoryLocks.opened(base.engine.url, "emr_records") as locks:
        word = OwnersWord(base.engine, base.ledger, base.positions)
        content = OwnContent(base.ledger, EmrKeys(base.engine, wrapping), word)
        known_emrs = KnownEmrs(content)
        writer = NoteWriter(content, locks, note_ids, known_emrs)
        imports = ImportStore(base.engine)
        worker = ImportWorker(imports, content, writer, base.wallet, locks)
        queued = QueuedNotes(base.engine)
        queue = QueueWorker(queued, content, writer, base.wallet, locks)
        async with worker.running(), queue.running():
            yield Services(
                ledger=base.ledger,
                authenticator=base.authenticator,
                idempotency=base.idempotency,
                transactions=base.transactions,
                own_keys=base.own_keys,
                access_log=base.access_log,
                positions=base.positions,
                readiness=base.readiness,
                content=content,
                known_emrs=known_emrs,
                writer=writer,
                searches=SearchStore(base.engine, settings.org_msp_id),
                history=HistoryStore(base.engine, base.access_log, settings.org_msp_id),
                typesetter=Typesetter(),
                imports=imports,
                import_worker=worker,
                queued_notes=queued,
                queue_worker=queue,
                disclosures=Disclosures(base.ledger, private_key, word),
                identifier_systems=settings.pseudonym.identifier_systems,
                identifier_key=_identifier_key(settings),
            )


def _secret_key(path: Path, variable: str = "KEY_FILE") -> bytes:
    key = path.read_bytes().strip()
    if len(key) < SHORTEST_KEY_BYTES:
        raise SettingsInvalid(f"EMR_PSEUDONYM__{variable}: a key has {SHORTEST_KEY_BYTES} bytes or more")
    return key


def _identifier_key(settings: RecordsSettings) -> bytes | None:
    path = settings.pseudonym.identifier_key_file
    return None if path is None else _secret_key(path, "IDENTIFIER_KEY_FILE")


def _private_key(settings: RecordsSettings) -> SealingPrivateKey:
    if settings.sealing.private_keyset_file is None:
        raise SettingsInvalid("EMR_SEALING__PRIVATE_KEYSET_FILE: the records service opens snapshots with it")
    return SealingPrivateKey.from_file(settings.sealing.private_keyset_file)
