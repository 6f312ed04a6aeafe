"""What the projector is told: Kafka, a database, the key that unwraps EMR keys, the key of pseudonyms.

And its peer, for jobs that read the ledger from block 0.
"""

from __future__ import annotations

from emr_common.settings import (
    DatabaseSettings,
    KafkaSettings,
    LedgerSettings,
    PseudonymSettings,
    SealingSettings,
    Settings,
)


class ProjectorSettings(Settings):
    database: DatabaseSettings
    ledger: LedgerSettings
    kafka: KafkaSettings
    sealing: SealingSettings
    pseudonym: PseudonymSettings
