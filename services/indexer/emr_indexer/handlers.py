"""What the indexer's API does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from emr_common.idempotency import Answer, Attempt
from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.codes import Code
from fastapi import Response

from emr_indexer.jobs.store import JobKind, JobStore
from emr_indexer.schemas import DeadLetterOut, DeadLettersOut, JobOut, PartitionOut, PositionOut
from emr_indexer.store import IndexStore


async def position(store: IndexStore, ledger_height: int) -> PositionOut:
    """``ledger_height`` is the number of blocks, 0 while it is not known; then there is no lag to tell."""
    partitions = await store.partitions()
    slowest = min(partitions, key=lambda each: each.block, default=None)
    as_of_block = slowest.block if slowest else -1
    return PositionOut(
        ledger_block=ledger_height - 1,
        as_of_block=as_of_block,
        as_of=slowest.marked_at if slowest else None,
        lag_blocks=max(0, ledger_height - 1 - as_of_block),
        parked_emrs=await store.count_parked(),
        partitions=[PartitionOut(partition=p.partition, block=p.block, stopped=p.stopped) for p in partitions],
    )


def lag_seconds(position: PositionOut, now: datetime) -> float:
    """How old the rows are while they lack blocks: a ledger on which nothing happens makes nobody late."""
    if not position.lag_blocks or position.as_of is None:
        return 0.0
    return max(0.0, (now - position.as_of).total_seconds())


async def dead_letters(store: IndexStore, *, resolved: bool | None, limit: int, after: str | None) -> DeadLettersOut:
    page = await store.dead_letters(resolved=resolved, limit=limit, after=after)
    found = [DeadLetterOut.model_validate(row) for row in page.rows]
    return DeadLettersOut(dead_letters=found, as_of_block=page.as_of_block, next=page.next)


async def replay(store: IndexStore, jobs: JobStore, caller: Caller, event_id: str, attempt: Attempt) -> Answer:
    """Raises Problem NOT_FOUND for what is no dead letter."""
    if not await store.has_dead_letter(event_id):
        raise Problem(Code.NOT_FOUND)
    return await accept(jobs, caller, JobKind.REPLAY, {"eventId": event_id}, attempt)


async def accept(
    jobs: JobStore, caller: Caller, kind: JobKind, argument: Mapping[str, Any], attempt: Attempt
) -> Answer:
    """Leaves a job to the projector."""
    job_id = attempt.earlier_ids.get("jobId") or secrets.token_hex(16)
    await attempt.remember({"jobId": job_id})
    await jobs.add(job_id, kind, argument, caller.enrolment_id)
    return Answer(200, {"jobId": job_id})  # kept as settled: a kept 202 would be a transaction of unknown outcome


def job_location(response: Response) -> Response:
    """202 and where to ask, for a job that was accepted, now or before."""
    response.status_code = 202
    response.headers["Location"] = f"/v1/jobs/{orjson.loads(response.body)['jobId']}"
    return response


async def job(jobs: JobStore, job_id: str) -> JobOut:
    """Raises Problem NOT_FOUND."""
    found = await jobs.find(job_id)
    if found is None:
        raise Problem(Code.NOT_FOUND)
    return JobOut.model_validate(vars(found))
