"""The relay's numbers."""

from __future__ import annotations

from emr_common.telemetry import begun_at_zero
from prometheus_client import Counter, Gauge

from emr_indexer.refusals import Refusal

ACTIVE = Gauge("emr_relay_active", "1 while this process is the hospital's relay, 0 while it stands by")
HALTED = Gauge(
    "emr_relay_halted", "1 after the ledger delivered a block that does not fit the chain; a person must look"
)
BLOCK = Gauge("emr_relay_block", "Last block of which Kafka has acknowledged everything; -1 before the first")
BLOCK_TIME = Gauge("emr_relay_block_time_seconds", "Time of that block on the ledger, seconds since 1970")
EVENTS = Counter("emr_relay_events_total", "Events acknowledged by Kafka", ["object_type"])
DEAD_LETTERS = begun_at_zero(
    Counter("emr_relay_dead_letters_total", "Writes on the ledger that were not believed", ["code"]), Refusal
)
MISSING_CONTENTS = Counter("emr_relay_missing_contents_total", "Own contents that the peer did not hold at delivery")
LATE_CONTENTS = Counter("emr_relay_late_contents_total", "Own contents that the peer had later, and that followed")
INTERRUPTIONS = Counter(
    "emr_relay_interruptions_total", "Times the relay had to begin again from Kafka's end", ["step"]
)
