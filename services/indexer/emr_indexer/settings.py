"""What the indexer's API is told from outside."""

from __future__ import annotations

from emr_common.settings import ServiceSettings


class IndexerSettings(ServiceSettings):
    """The common groups are enough: it reads positions and dead letters, and opens nothing."""
