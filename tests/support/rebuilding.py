"""Jobs of the indexer on a hospital whose ledger the test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from emr_indexer.jobs.rebuild import Rebuild
from emr_indexer.jobs.shadow import Source
from emr_indexer.jobs.store import Job, JobKind
from emr_indexer.jobs.verification import Verification
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_indexer.relay.facts import BlockReader
from emr_model.ledger.events import PARTITIONS
from hlf.blocks import Block, Checkpoint
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import CHANNEL, NAMESPACE, LedgerWriter
from support.read_model import PSEUDONYM_KEY, Hospital


class Blocks:
    """The writer's, as a peer gives them."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._writer = writer

    async def up_to(self, last: int, after: Checkpoint | None = None) -> AsyncIterator[Block]:
        start = 0 if after is None else after.block_number + 1
        for number in range(start, last + 1):
            await asyncio.sleep(0)
            yield self._writer.blocks[number]

    async def last(self) -> int:
        return len(self._writer.blocks) - 1

    async def one(self, number: int) -> Block:
        return self._writer.blocks[number]


async def rebuild(hospital: Hospital, **settings: Any) -> Any:
    return await Rebuild(hospital.database, source(hospital), PARTITIONS, **settings).do(_job(JobKind.REBUILD), _told)


async def verify(hospital: Hospital) -> Any:
    return await Verification(hospital.database, source(hospital)).do(_job(JobKind.VERIFICATION), _told)


def source(hospital: Hospital, blocks: Blocks | None = None) -> Source:
    """Of the writer's blocks, or of others."""

    def projector(on: AsyncEngine, partitions: int, locks: int) -> Projector:
        return Projector(on, hospital.msp_id, hospital.wrapping, Pseudonyms(PSEUDONYM_KEY), partitions, locks)

    return Source(blocks or Blocks(hospital.writer), BlockReader(CHANNEL, NAMESPACE, hospital.msp_id), projector)


def _job(kind: JobKind) -> Job:
    return Job("j", kind, {}, "running", None, None, None, None, None, None)  # type: ignore[arg-type]


async def _told(_: Any) -> None: ...
