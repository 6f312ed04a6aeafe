"""Bodies of the indexer's API: numbers, ids and codes."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class PartitionOut(Body):
    partition: int
    block: int = Field(description="Everything of the partition up to this block is in; -1 before the first")
    stopped: bool = Field(description="Whether the partition waits for a person")


class PositionOut(Body):
    """How far the read model is behind the ledger."""

    ledger_block: int = Field(description="The ledger's last block; -1 while it is not known")
    as_of_block: int = Field(alias="as_of_block", description="Everything up to this block is in")
    as_of: datetime | None = Field(description="Time of that block on the ledger")
    lag_blocks: int
    partitions: list[PartitionOut]


class DeadLetterOut(Body):
    """Something on the ledger that is not believed, or cannot be projected."""

    event_id: str
    code: str
    stage: str
    object_type: str
    emr_id: str | None
    transaction_id: str
    stops_partition: bool
    partition: int | None
    first_at: datetime
    resolved_at: datetime | None


class DeadLettersOut(Body):
    """One page, the newest first. ``next`` is the cursor of the page after it, None at the end."""

    dead_letters: list[DeadLetterOut]
    as_of_block: int = Field(alias="as_of_block")
    next: str | None
