"""A hospital that runs a chaincode of its own making, alone, gets nowhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from emr_model.ledger import keys
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.keys import Key
from emr_model.ledger.sharing import SharingState
from emr_model.ledger.values import Access, End, Event, Life, LifeState
from hlf.chaincode import Response, Stub, composite_key
from hlf.errors import EndorseError
from support.contract_network import A, B, refusal_of
from support.contract_stories import SEALING_KEY, Story


class Writes:
    """Does one thing to the ledger, whoever calls."""

    def __init__(self, do: Callable[[Stub], None]) -> None:
        self._do = do

    async def invoke(self, stub: Stub) -> Response:
        self._do(stub)
        return Response()


def put(key: Key, value: bytes) -> Writes:
    return Writes(lambda stub: stub.put_state(composite_key(*key), value))


def delete(key: Key) -> Writes:
    return Writes(lambda stub: stub.del_state(composite_key(*key)))


async def commit_alone(story: Story, chaincode: Writes, msp_id: str = A) -> str:
    """What becomes of a transaction that only this hospital endorses, with its own chaincode."""
    person = story.staff(Role.ADMIN, msp_id)
    async with story.network.with_own_chaincode(msp_id, chaincode):
        try:
            transaction = await story.network.endorse(person, "Anything", endorsers=[msp_id])
        except EndorseError:
            return "NOT_PREPARED"
    return (await story.network.commit(person, transaction)).validation_name


def nothing_ended(story: Story) -> bytes:
    return End(0, None, None, story.network.clock.now(), Event.SHARING_OPENED).to_json()


async def test_an_ending_that_the_owner_writes_back_stays_an_ending(story: Story) -> None:
    await story.share_all()
    await story.remove()
    end = keys.end(story.emr_id, B)
    assert await commit_alone(story, put(end, nothing_ended(story))) == "VALID"
    assert (await story.sharing()).state is SharingState.ENDED
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED


async def test_an_ending_that_the_owner_deletes_stays_an_ending(story: Story) -> None:
    await story.share_all()
    await story.remove()
    assert await commit_alone(story, delete(keys.end(story.emr_id, B))) == "VALID"
    assert (await story.sharing()).state is SharingState.ENDED
    await story.share_all()
    assert (await story.sharing()).number == 2
    await story.remove()  # the key is under its policy again: the owner's peer alone endorses
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED


@pytest.mark.parametrize("how", ["written back", "deleted"])
async def test_an_erasure_that_the_owner_takes_back_stays_an_erasure(story: Story, how: str) -> None:
    await story.share_all()
    await story.erase()
    life = keys.life(story.emr_id)
    active = LifeState(Life.ACTIVE, "x", story.network.clock.now(), Event.EMR_CREATED).to_json()
    assert await commit_alone(story, put(life, active) if how == "written back" else delete(life)) == "VALID"
    assert await refusal_of(story.own_emr()) is Code.EMR_ERASED
    assert await refusal_of(story.add_note()) is Code.EMR_ERASED
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED


async def test_garbage_under_an_ending_ends_and_the_next_sharing_heals_it(story: Story) -> None:
    await story.share_all()
    assert await commit_alone(story, put(keys.end(story.emr_id, B), b"{}")) == "VALID"
    assert (await story.sharing()).state is SharingState.ENDED
    assert await refusal_of(story.disclose()) is Code.ACCESS_NOT_GRANTED
    await story.share_all()
    assert (await story.sharing()).number == 2
    await story.remove()
    assert (await story.sharing()).state is SharingState.ENDED


async def test_garbage_for_a_life_is_no_life(story: Story) -> None:
    assert await commit_alone(story, put(keys.life(story.emr_id), b"{}")) == "VALID"
    assert await refusal_of(story.own_emr()) is Code.EMR_ERASED


async def test_an_approval_cannot_be_written_by_one_hospital(story: Story) -> None:
    access = Access(1, None, None, None, None, Event.OWNER_APPROVED).to_json()
    for msp_id in (A, B):
        outcome = await commit_alone(story, put(keys.access(story.emr_id, B), access), msp_id)
        assert outcome in {"ENDORSEMENT_POLICY_FAILURE", "NOT_PREPARED"}


async def test_an_ending_cannot_be_written_by_the_other_hospital(story: Story) -> None:
    await story.share_all()
    await story.remove()
    outcome = await commit_alone(story, put(keys.end(story.emr_id, B), nothing_ended(story)), B)
    assert outcome == "ENDORSEMENT_POLICY_FAILURE"


async def test_what_hospitals_answer_differently_is_not_prepared(story: Story) -> None:
    center = story.staff(Role.HEALTHCENTER)
    arguments = (story.emr_id, B, "0", SEALING_KEY)
    async with story.network.with_own_chaincode(B, put(keys.life(story.emr_id), b"different")):
        with pytest.raises(EndorseError):
            await story.network.endorse(center, Function.AUTHORIZE_EMR_READING, *arguments)
    assert await refusal_of(story.sharing()) is Code.SHARING_NOT_FOUND
