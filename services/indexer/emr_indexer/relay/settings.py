"""What the relay is told: its peer, its Kafka, and a database for the lock."""

from __future__ import annotations

from emr_common.settings import DatabaseSettings, KafkaSettings, LedgerSettings, Settings


class RelaySettings(Settings):
    ledger: LedgerSettings
    database: DatabaseSettings
    kafka: KafkaSettings
