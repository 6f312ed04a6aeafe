"""What the consent service and the sharer are told from outside."""

from __future__ import annotations

from emr_common.settings import (
    DatabaseSettings,
    KafkaSettings,
    LedgerSettings,
    SealingSettings,
    ServiceSettings,
    Settings,
)


class ConsentSettings(ServiceSettings):
    """The HTTP service needs no key to any content."""


class SharerSettings(Settings):
    """The sharer opens the hospital's own EMRs, to seal them again for a recipient."""

    ledger: LedgerSettings
    database: DatabaseSettings
    kafka: KafkaSettings
    sealing: SealingSettings
