"""Where a majority suffices, two of three hospitals can write about an EMR of the third's. The ledger takes it; the
owner's services and every projector do not."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from emr_model.ledger import keys
from emr_model.ledger.answers import EmrView, SharedEmr, SharingView
from emr_model.ledger.functions import Function, Role
from emr_model.ledger.sharing import SharingState
from emr_model.ledger.values import Access, End, Event, Note, OwnerApproval, PatientApproval
from emr_readmodel import care
from hlf.chaincode import Response, Stub, composite_key
from hlf.policies import signature_policy
from prometheus_client import REGISTRY
from support.contract_network import A, B, new_id
from support.records_calls import code, get, note_bundle, post_disclosure, post_note
from support.records_hospital import Person, RecordsHospital

from .conftest import C, Consortium

SECONDS = 60.0


class Forgery:
    """Writes values under public keys, and one under a private key of B's, whoever calls. Who has to endorse the public
    keys from then on, ``policy`` says."""

    def __init__(
        self,
        values: dict[keys.Key, bytes],
        private: tuple[keys.Key, bytes] | None = None,
        policy: bytes | None = None,
    ) -> None:
        self._values = values
        self._private = private
        self._policy = policy

    async def invoke(self, stub: Stub) -> Response:
        for key, value in self._values.items():
            stub.put_state(composite_key(*key), value)
            if self._policy is not None:
                stub.set_state_validation_parameter(composite_key(*key), self._policy)
        if self._private is not None:
            key, value = self._private
            stub.put_private_data(keys.implicit_collection(B), composite_key(*key), value)
        return Response()


async def forge(consortium: Consortium, forgery: Forgery) -> int:
    """Commits what B and C endorse without A; its block."""
    network = consortium.network
    person = network.staff(B, Role.ADMIN)
    async with network.with_own_chaincode(B, forgery), network.with_own_chaincode(C, forgery):
        transaction = await network.endorse(person, "Anything", endorsers=[B, C])
    commit = await network.commit(person, transaction)
    assert commit.validation_name == "VALID"
    return commit.block_number


async def projected(hospital: RecordsHospital, block: int) -> None:
    await hospital.foundation.positions.wait_for(block, SECONDS)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + SECONDS
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def public_emr(consortium: Consortium, patient: Person) -> EmrView:
    return EmrView.from_json(
        await consortium.network.evaluate(patient.signer, Function.GET_OWN_EMR)  # as the ledger has it
    )


async def note_of(hospital: RecordsHospital, patient: Person, physician: Person, name: str = "1") -> None:
    answer = await post_note(hospital, physician, patient.emr_id, note_bundle(name))
    assert answer.status_code == 201, answer.text
    await hospital.seen_everywhere(answer.json()["block"])


async def rows(hospital: RecordsHospital, table: sa.Table, emr_id: str | None) -> list[dict[str, Any]]:
    async with hospital.engine.connect() as connection:
        found = await connection.execute(sa.select(table).where(table.c.emr_id == emr_id))
        return [dict(row) for row in found.mappings()]


async def forged_note(consortium: Consortium, patient: Person) -> int:
    """One more note in the patient's EMR, as far as public state goes."""
    emr = (await public_emr(consortium, patient)).emr
    emr = replace(emr, version=emr.version + 1, event=Event.NOTE_ADDED)
    note = Note(new_id(), "somebody", emr.at, "c" * 64, "d" * 64)
    emr_id = patient.emr_id or ""
    values = {keys.emr(emr_id): emr.to_json(), keys.note(emr_id, emr.version): note.to_json()}
    return await forge(consortium, Forgery(values))


async def test_a_note_that_the_owner_did_not_endorse_is_no_row_and_nothing_is_read_or_built_on_it(
    consortium: Consortium,
) -> None:
    a = consortium.a
    physician, patient, another = await a.enrol(Role.PHYSICIAN), await a.admit(), await a.admit()
    await note_of(a, patient, physician)
    assert (await get(a, physician, f"/emrs/{patient.emr_id}/notes")).status_code == 200
    block = await forged_note(consortium, patient)
    assert (await public_emr(consortium, patient)).emr.version == 2
    await projected(a, block)
    assert [row["version"] for row in await rows(a, care.note, patient.emr_id)] == [1]
    assert [row["version"] for row in await rows(a, care.emr, patient.emr_id)] == [1]
    await projected(consortium.b, block)
    assert [row["version"] for row in await rows(consortium.b, care.emr, patient.emr_id)] == [1]
    refused = (500, "OWNER_DID_NOT_ENDORSE")
    assert code(await get(a, physician, f"/emrs/{patient.emr_id}")) == refused
    assert code(await get(a, physician, f"/emrs/{patient.emr_id}/notes")) == refused
    assert code(await get(a, patient, "/me/emr")) == refused
    assert code(await post_note(a, physician, patient.emr_id, note_bundle("2"))) == refused
    await note_of(a, another, physician)
    assert (await get(a, physician, f"/emrs/{another.emr_id}/notes")).status_code == 200


async def test_notes_that_were_taken_away_without_the_owner_are_missed(consortium: Consortium) -> None:
    a = consortium.a
    physician, patient = await a.enrol(Role.PHYSICIAN), await a.admit()
    await note_of(a, patient, physician, "1")
    await note_of(a, patient, physician, "2")
    emr = replace((await public_emr(consortium, patient)).emr, version=1, event=Event.NOTE_ADDED)
    await forge(consortium, Forgery({keys.emr(patient.emr_id or ""): emr.to_json()}))
    assert code(await get(a, physician, f"/emrs/{patient.emr_id}/notes")) == (500, "OWNER_DID_NOT_ENDORSE")


async def test_another_author_of_a_note_is_not_shown(consortium: Consortium) -> None:
    a = consortium.a
    physician, patient = await a.enrol(Role.PHYSICIAN), await a.admit()
    await note_of(a, patient, physician)
    (note,) = (await public_emr(consortium, patient)).notes
    forged = Note(note.note_id, "somebody", note.at, note.commitment, note.sha256)
    await forge(consortium, Forgery({keys.note(patient.emr_id or "", 1): forged.to_json()}))
    for path in (f"/emrs/{patient.emr_id}/notes", f"/emrs/{patient.emr_id}/notes/1"):
        assert code(await get(a, physician, path)) == (500, "OWNER_DID_NOT_ENDORSE")
    assert (await get(a, physician, f"/emrs/{patient.emr_id}")).status_code == 200


async def test_the_sharer_shares_nothing_by_an_approval_that_the_owner_did_not_endorse(
    consortium: Consortium,
) -> None:
    a = consortium.a
    physician, patient = await a.enrol(Role.PHYSICIAN), await a.admit()
    emr_id = patient.emr_id or ""
    await note_of(a, patient, physician)
    at = (await public_emr(consortium, patient)).emr.at
    approvals = OwnerApproval("somebody", 1, "k1", at), PatientApproval("somebody", 1, None, at)
    access = Access(1, None, *approvals, None, Event.PATIENT_APPROVED)
    block = await forge(consortium, Forgery({keys.access(emr_id, B): access.to_json()}))
    assert (await sharing(a, emr_id)).state is SharingState.APPROVED
    before = _refused_steps()
    consortium.sharer.wake((emr_id, B))
    await projected(a, block)

    async def refused_twice() -> bool:
        return _refused_steps() >= before + 2

    await eventually(refused_twice)
    assert not await rows(a, care.sharing, emr_id)
    assert (await sharing(a, emr_id)).state is SharingState.APPROVED
    block = await _approve(a, patient)  # endorsed by A, and on top of what A never endorsed
    consortium.sharer.wake((emr_id, B))
    await projected(a, block)
    assert await refusals(a, emr_id) == ["OWNER_DID_NOT_ENDORSE", "BUILT_ON_UNENDORSED", "BUILT_ON_UNENDORSED"]
    assert not await rows(a, care.sharing, emr_id)
    clerk = await a.enrol(Role.HEALTHCENTER)
    await a.submit(clerk.signer, Function.END_EMR_READING, emr_id, B, "withdrawn")
    await _approve(a, patient)
    consortium.sharer.wake((emr_id, B))

    async def shared() -> bool:
        return (await sharing(a, emr_id)).state is SharingState.SHARED

    await eventually(shared)
    assert (await sharing(a, emr_id)).number == 2


async def test_what_the_owner_endorses_on_top_of_a_forged_state_of_the_same_version_counts_nowhere(
    consortium: Consortium,
) -> None:
    """The contract carries on the patient's key that it finds, and the owner's peer cannot know whose it is."""
    a = consortium.a
    physician, patient, clerk = await a.enrol(Role.PHYSICIAN), await a.admit(), await a.enrol(Role.HEALTHCENTER)
    emr_id = patient.emr_id or ""
    await note_of(a, patient, physician)
    forged = replace((await public_emr(consortium, patient)).emr, visits=7, event=Event.NOTE_ADDED)
    block = await forge(consortium, Forgery({keys.emr(emr_id): forged.to_json()}))
    await projected(a, block)
    before = await rows(a, care.emr, emr_id)
    assert code(await post_note(a, physician, emr_id, note_bundle("2"))) == (500, "OWNER_DID_NOT_ENDORSE")
    committed = await a.submit(clerk.signer, Function.REBIND_PATIENT_KEY, emr_id, "e" * 64)
    for hospital in (a, consortium.b):
        await projected(hospital, committed.block)
        assert await refusals(hospital, emr_id) == ["OWNER_DID_NOT_ENDORSE", "BUILT_ON_UNENDORSED"]
    assert (await rows(a, care.emr, emr_id), before[0]["visits"]) == (before, 1)
    assert code(await get(a, physician, f"/emrs/{emr_id}")) == (500, "OWNER_DID_NOT_ENDORSE")


@pytest.mark.parametrize("policy", [None, signature_policy(1, [(B, "peer")])], ids=["no policy", "a policy of B"])
async def test_an_end_that_others_opened_is_the_owners_with_the_first_approval(
    consortium: Consortium, policy: bytes | None
) -> None:
    a, network = consortium.a, consortium.network
    physician, patient, clerk = await a.enrol(Role.PHYSICIAN), await a.admit(), await a.enrol(Role.HEALTHCENTER)
    emr_id = patient.emr_id or ""
    await note_of(a, patient, physician)
    opened = End(0, None, None, (await public_emr(consortium, patient)).emr.at, Event.SHARING_OPENED)
    await forge(consortium, Forgery({keys.end(emr_id, B): opened.to_json()}, policy=policy))
    if policy is not None:  # and where B does not let it go, nothing is shared either
        call = (Function.AUTHORIZE_EMR_READING, emr_id, B, "1", "k1")
        without_b = await network.endorse(clerk.signer, *call, endorsers=[A, C])
        commit = await network.commit(clerk.signer, without_b)
        assert commit.validation_name == "ENDORSEMENT_POLICY_FAILURE"
    await _approve(a, patient)
    await a.submit(clerk.signer, Function.END_EMR_READING, emr_id, B, "withdrawn")  # endorsed by A alone
    assert (await sharing(a, emr_id)).state is SharingState.ENDED


async def test_nonsense_that_the_owner_did_not_endorse_parks_nothing(consortium: Consortium) -> None:
    a = consortium.a
    physician, patient = await a.enrol(Role.PHYSICIAN), await a.admit()
    await forge(consortium, Forgery({keys.access(patient.emr_id or "", B): b"{}"}))
    await note_of(a, patient, physician)
    assert len((await get(a, physician, f"/emrs/{patient.emr_id}/notes")).json()["notes"]) == 1


async def test_the_recipient_shows_nothing_by_a_sharing_that_the_owner_did_not_endorse(
    consortium: Consortium,
) -> None:
    a, b = consortium.a, consortium.b
    physician, patient, reader = await a.enrol(Role.PHYSICIAN), await a.admit(), await b.enrol(Role.PHYSICIAN)
    emr_id = patient.emr_id or ""
    await note_of(a, patient, physician)
    await _approve(a, patient)
    consortium.sharer.wake((emr_id, B))

    async def is_read() -> bool:
        answer = await read(b, reader, patient)
        return bool(answer.status_code == 200)

    await eventually(is_read)
    stood = await sharing(a, emr_id)
    sealed = await _sealed(consortium, reader, patient)
    await a.submit(patient.signer, Function.REMOVE_EMR_SHARING, B)
    snapshot = replace(stood.access, number=stood.number + 1)
    private = keys.snapshot(emr_id, snapshot.number, 1), sealed
    await forge(consortium, Forgery({keys.access(emr_id, B): snapshot.to_json()}, private))
    assert (await sharing(a, emr_id)).state is SharingState.SHARED
    assert code(await read(b, reader, patient)) == (500, "OWNER_DID_NOT_ENDORSE")


async def test_notes_go_on_without_a_hospital_that_they_are_not_about(consortium: Consortium) -> None:
    a = consortium.a
    physician, patient = await a.enrol(Role.PHYSICIAN), await a.admit()
    async with consortium.network.without_peer(C):
        answers = [await post_note(a, physician, patient.emr_id, note_bundle(name)) for name in ("1", "2")]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len((await get(a, physician, f"/emrs/{patient.emr_id}/notes")).json()["notes"]) == 2


async def sharing(hospital: RecordsHospital, emr_id: str) -> SharingView:
    ledger = hospital.foundation.ledger
    return SharingView.from_json(await ledger.evaluate(ledger.service, Function.GET_SHARING, emr_id, B))


async def read(b: RecordsHospital, reader: Person, patient: Person) -> Any:
    receipt = await post_disclosure(b, reader, A, patient.patient_id)
    if receipt.status_code != 201:
        return receipt
    return await get(b, reader, f"/disclosures/{receipt.json()['receipt']}/emr")


async def refusals(hospital: RecordsHospital, emr_id: str) -> list[str]:
    """The codes of the EMR's dead letters, in the order of the ledger."""
    table = care.dead_letter.c
    async with hospital.engine.connect() as connection:
        query = sa.select(table.code).where(table.emr_id == emr_id).order_by(table.event_id)
        return list(await connection.scalars(query))


async def _approve(a: RecordsHospital, patient: Person) -> int:
    """Both sides; the block of the second."""
    clerk = await a.enrol(Role.HEALTHCENTER)
    await a.submit(clerk.signer, Function.AUTHORIZE_EMR_READING, patient.emr_id or "", B, 1, "k1")
    return (await a.submit(patient.signer, Function.APPROVE_EMR_SHARING, B, 1)).block


async def _sealed(consortium: Consortium, reader: Person, patient: Person) -> bytes:
    """The snapshot's bytes as B's peer holds them."""
    receipt = (await post_disclosure(consortium.b, reader, A, patient.patient_id)).json()["receipt"]
    answer = await consortium.network.evaluate(reader.signer, Function.READ_SHARED_EMR, receipt)
    return base64.b64decode(SharedEmr.from_json(answer).sealed)


def _refused_steps() -> float:
    return REGISTRY.get_sample_value("emr_sharer_failures_total", {"code": "APPROVAL_NOT_PROJECTED"}) or 0
