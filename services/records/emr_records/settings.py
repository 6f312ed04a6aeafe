"""What the records service is told from outside."""

from __future__ import annotations

from emr_common.settings import PseudonymSettings, SealingSettings, ServiceSettings


class RecordsSettings(ServiceSettings):
    """Beside the common groups: the keys that open own and received content, and the key of note ids.

    ``pseudonym.identifier_systems``, if given, are those by which a bundle's Patient is held against the EMR's.
    ``pseudonym.identifier_key_file``, if given, is admission's key: searches by identifier need it.
    """

    sealing: SealingSettings
    pseudonym: PseudonymSettings
