"""What comes into the read model late is told all the same: once, and after what was told before."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_consent.changes import Change, ChangeStore
from emr_indexer.projector import store
from emr_readmodel import care
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ledger_writer import Patient, visit_note
from support.read_model import Hospital, give_key, lose_key, rows
from support.rebuilding import rebuild, verify

OTHER = "HospitalB"


class Story:
    """A hospital, one EMR of which can be parked, another that goes on; and a listener who hears as a stream does."""

    def __init__(self, database: AsyncEngine, wrapping: WrappingKey) -> None:
        self.hospital = Hospital(database, wrapping)
        self.changes = ChangeStore(database)
        self.position = -1
        self.heard: list[Change] = []
        self._right_key = b""

    async def begin(self) -> None:
        writer = self.hospital.writer
        writer.cut(writer.register("HospitalA"), writer.register(OTHER))
        self.parked, first = await self.hospital.admit()
        self.other, second = await self.hospital.admit()
        writer.cut(first, second)
        await self.go_on()

    async def park(self) -> None:
        """From here on nothing of the one EMR can be projected, a sharing with its ending and a read among it."""
        self._right_key = await lose_key(self.hospital, self.parked)
        self.cut_note(self.parked)
        self.cut_sharing(self.parked, ends=True)
        self.cut_sharing(self.parked, number=2)

    async def replay(self) -> None:
        await self.mend()
        await self.hospital.projector.replay(self.parked.emr_id)

    async def mend(self) -> None:
        await give_key(self.hospital, self.parked, self._right_key)

    def cut_note(self, patient: Patient) -> None:
        self.hospital.writer.cut(self.hospital.writer.add_note(patient, visit_note()))

    def cut_sharing(self, patient: Patient, number: int = 1, *, ends: bool = False) -> None:
        writer, version = self.hospital.writer, patient.value.version
        access, request = writer.request(patient, OTHER, number)
        writer.cut(request)
        approved, approvals = writer.approve(patient, OTHER, access, version)
        writer.cut(*approvals)
        _, shared = writer.share(patient, OTHER, approved, version, b"sealed")
        writer.cut(shared)
        writer.cut(writer.disclose(patient, OTHER, number, version))
        if ends:
            writer.cut(writer.end(patient, OTHER, number))

    async def go_on(self) -> None:
        """A block with something else, and everything up to it into rows and to the listener."""
        self.cut_note(self.other)
        await self.hospital.project()
        await self.listen()

    async def listen(self) -> list[Change]:
        found = await self.changes.after(self.position)
        assert found.up_to >= self.position
        assert all(self.position < change.block <= found.up_to for change in found.changes)
        self.position = found.up_to
        self.heard += found.changes
        return list(found.changes)

    def kinds_heard(self, patient: Patient) -> list[str]:
        return [change.kind for change in self.heard if change.emr_id == patient.emr_id]


ALL_OF_IT = ["sharing", "disclosure", "sharing", "disclosure"]


@pytest.fixture
async def story(database: AsyncEngine, wrapping: WrappingKey) -> Story:
    await store.prepare(database)
    made = Story(database, wrapping)
    await made.begin()
    return made


async def test_a_replayed_emrs_events_are_heard_with_the_next_block(story: Story) -> None:
    await story.park()
    story.cut_sharing(story.other)
    await story.go_on()
    assert story.kinds_heard(story.parked) == []
    await story.replay()
    assert await story.listen() == []
    await story.go_on()
    assert sorted(story.kinds_heard(story.parked)) == sorted(ALL_OF_IT)
    assert story.kinds_heard(story.other) == ["sharing", "disclosure"]
    ended = next(one.data for one in story.heard if one.kind == "sharing" and one.data["ended_at"] is not None)
    assert ended["block"] < story.position
    await story.go_on()
    assert len(story.heard) == 6


async def test_what_comes_in_its_own_time_after_a_replay_is_told_as_ever(story: Story) -> None:
    await story.park()
    await story.go_on()
    await story.replay()
    story.hospital.writer.cut(story.hospital.writer.end(story.parked, OTHER, 2))
    await story.go_on()
    (second,) = [one for one in story.heard if one.kind == "sharing" and one.data["number"] == 2]
    assert (second.block, second.data["ended_at"] is not None) == (second.data["block"], True)
    assert {one["late_block"] is None for one in await rows(story.hospital.database, care.sharing)} == {True, False}


async def test_a_rebuild_keeps_what_was_not_told_yet(story: Story) -> None:
    await story.park()
    await story.go_on()
    await story.replay()
    await rebuild(story.hospital)
    await story.go_on()
    assert sorted(story.kinds_heard(story.parked)) == sorted(ALL_OF_IT)
    assert (await verify(story.hospital))["differences"] == []


async def test_what_a_rebuild_brings_in_is_told_and_nothing_twice(story: Story) -> None:
    story.cut_sharing(story.other)
    await story.park()
    await story.go_on()
    await story.mend()
    await rebuild(story.hospital)
    await story.go_on()
    assert sorted(story.kinds_heard(story.parked)) == sorted(ALL_OF_IT)
    assert story.kinds_heard(story.other) == ["sharing", "disclosure"]


async def test_a_replay_while_positions_begin_anew_is_told_to_those_who_were_further(story: Story) -> None:
    await story.park()
    await story.go_on()
    stood = story.position
    story.hospital = _with_partitions(story.hospital, 3)
    await store.prepare(story.hospital.database, 3)
    await story.replay()
    assert (await story.changes.after(stood)).changes == ()
    await story.go_on()
    assert sorted(story.kinds_heard(story.parked)) == sorted(ALL_OF_IT)


def _with_partitions(hospital: Hospital, partitions: int) -> Hospital:
    made = Hospital(hospital.database, hospital.wrapping, partitions=partitions)
    made.writer = hospital.writer
    return made


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_read_when_every_listener_hears_everything_once(story: Story, seed: int) -> None:
    """Blocks, replays and rebuilds in any order, and partitions that are at different blocks."""
    chance = random.Random(seed)
    await story.park()
    for _ in range(12):
        match chance.randrange(4):
            case 0:
                await story.go_on()
            case 1:
                story.cut_note(story.other)
                records = story.hospital.records()
                ahead = set(chance.sample(range(story.hospital.partitions), 3))
                await story.hospital.projector.project([one for one in records if one.partition in ahead])
                await story.listen()
            case 2 if chance.random() < 0.5:
                await story.replay()
                await story.listen()
            case _ if chance.random() < 0.3:
                await rebuild(story.hospital)
                await story.listen()
    await story.replay()
    await story.go_on()
    await story.go_on()
    assert sorted(story.kinds_heard(story.parked)) == sorted(ALL_OF_IT)
    async with story.hospital.database.connect() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(care.parked)) == 0
