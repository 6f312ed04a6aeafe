"""What the registration service is told from outside."""

from __future__ import annotations

from emr_common.settings import CaSettings, PseudonymSettings, SealingSettings, ServiceSettings


class RegistrationSettings(ServiceSettings):
    """Beside the common groups: the CA, the key that wraps EMR keys, and how patients are recognized."""

    sealing: SealingSettings
    ca: CaSettings
    pseudonym: PseudonymSettings
