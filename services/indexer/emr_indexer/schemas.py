"""Bodies of the indexer's API: numbers, ids and codes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
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
    parked_emrs: int = Field(description="EMRs that wait for a correction: as_of_block does not speak for them")
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
    parked: bool = Field(description="Whether events about the EMR wait behind it")
    first_at: datetime
    resolved_at: datetime | None


class VerificationIn(Body):
    """With ``erased``, erasures are looked at, of one EMR or of all."""

    erased: Annotated[bool, Field(examples=[True])] = False
    emr_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None

    @model_validator(mode="after")
    def _rows_are_compared_all_together(self) -> Self:
        if self.emr_id is not None and not self.erased:
            raise ValueError("emrId goes with erased")
        return self


class JobAcceptedOut(Body):
    """Ask ``Location`` what became of it."""

    job_id: str


class JobOut(Body):
    """``progress`` and ``result`` hold ids, numbers and codes; ``code`` says why a job failed."""

    job_id: str
    kind: str
    argument: dict[str, Any]
    state: str
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    code: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class DeadLettersOut(Body):
    """One page, the newest first. ``next`` is the cursor of the page after it, None at the end."""

    dead_letters: list[DeadLetterOut]
    as_of_block: int = Field(alias="as_of_block")
    next: str | None
