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
    """The HTTP service opens the hospital's own EMRs, to show a patient what an approval would share."""

    sealing: SealingSettings


class SharerSettings(Settings):
    """The sharer opens the hospital's own EMRs, to seal them again for a recipient."""

    ledger: LedgerSettings
    database: DatabaseSettings
    kafka: KafkaSettings
    sealing: SealingSettings
