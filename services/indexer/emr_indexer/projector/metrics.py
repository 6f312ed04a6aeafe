"""The projector's numbers."""

from __future__ import annotations

from emr_common.telemetry import begun_at_zero
from prometheus_client import Counter, Gauge, Histogram

from emr_indexer.refusals import Refusal

EVENTS = Counter("emr_projector_events_total", "Events by what became of them", ["object_type", "outcome"])
DEAD_LETTERS = begun_at_zero(
    Counter("emr_projector_dead_letters_total", "Events that were refused or stopped a partition", ["code"]), Refusal
)
PLACEHOLDERS = Counter("emr_projector_placeholders_total", "Own notes whose content could not be had at first")
BLOCK = Gauge("emr_projector_block", "Last block of which everything of the partition is in", ["partition"])
STOPPED = Gauge("emr_projector_partition_stopped", "1 while the partition waits for a person", ["partition"])
PARKED = Gauge("emr_projector_parked_emrs", "EMRs that wait for a correction, with everything behind it")
LAG_MESSAGES = Gauge("emr_projector_lag_messages", "Messages in Kafka that are not projected yet", ["partition"])
BATCH_SECONDS = Histogram(
    "emr_projector_batch_seconds",
    "From a batch's arrival to its commit",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
BATCH_MESSAGES = Histogram(
    "emr_projector_batch_messages", "Messages in a batch", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
)
DELAY_SECONDS = Histogram(
    "emr_projector_delay_seconds",
    "From a transaction's own time to its row",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 60, 600),
)
DATABASE_FAILURES = Counter("emr_projector_database_failures_total", "Batches begun again because Postgres failed")
