"""The lag as the API sees it: from the ledger's height and the rows, so it is there when relay or projector is not."""

from __future__ import annotations

from prometheus_client import Gauge

LAG_BLOCKS = Gauge("emr_indexer_lag_blocks", "Blocks of the ledger that are not in the read model")
LAG_SECONDS = Gauge(
    "emr_indexer_lag_seconds",
    "How long ago the last block was that is in the read model, while blocks are missing; else 0",
)
AS_OF_BLOCK = Gauge("emr_indexer_as_of_block", "Everything up to this block is in the read model; -1 before the first")
LEDGER_BLOCK = Gauge("emr_indexer_ledger_block", "The ledger's last block; -1 while it is not known")
VERIFIED_AT = Gauge(
    "emr_indexer_verified_at_seconds",
    "When the part of the rows was compared with the ledger that was longest ago, since 1970; 0: one never was",
)
DIFFERENCES = Gauge("emr_indexer_differences", "Rows that were not what the ledger says when they were last compared")
PARKED_EMRS = Gauge("emr_indexer_parked_emrs", "EMRs that wait for a correction, with everything behind it")
STOPPED_PARTITIONS = Gauge("emr_indexer_stopped_partitions", "Partitions that wait for a person")
RELEASED_AT = Gauge(
    "emr_indexer_published_time_seconds", "When the published numbers were refreshed last, seconds since 1970; 0: never"
)
