"""What the indexer's API does."""

from __future__ import annotations

from emr_indexer.schemas import DeadLetterOut, DeadLettersOut, PartitionOut, PositionOut
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
        partitions=[PartitionOut(partition=p.partition, block=p.block, stopped=p.stopped) for p in partitions],
    )


async def dead_letters(store: IndexStore, *, resolved: bool | None, limit: int, after: str | None) -> DeadLettersOut:
    page = await store.dead_letters(resolved=resolved, limit=limit, after=after)
    found = [DeadLetterOut.model_validate(row) for row in page.rows]
    return DeadLettersOut(dead_letters=found, as_of_block=page.as_of_block, next=page.next)
