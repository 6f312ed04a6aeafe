"""What the projector is told: Kafka, a database, the key that unwraps EMR keys, the key of pseudonyms."""

from __future__ import annotations

from emr_common.settings import DatabaseSettings, KafkaSettings, PseudonymSettings, SealingSettings, Settings


class ProjectorSettings(Settings):
    database: DatabaseSettings
    kafka: KafkaSettings
    sealing: SealingSettings
    pseudonym: PseudonymSettings
