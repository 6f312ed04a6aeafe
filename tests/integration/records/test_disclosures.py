"""Another hospital's physician reads the snapshot that both sides approved, and nothing else."""

import hashlib
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.sealing import SealingPublicKey, associated_data
from emr_consent.sharer.snapshots import Snapshots
from emr_model.clinical.snapshot import SnapshotDemographics, SnapshotNote, build
from emr_model.ledger.answers import SharedEmr
from emr_model.ledger.functions import Function, Role
from emr_readmodel.hospital import access_log
from support.contract_network import CHANNEL, A, B
from support.records_calls import code, get, note_bundle, post_disclosure, post_note
from support.records_hospital import Person, RecordsHospital


async def approve(a: RecordsHospital, patient: Person, version: int) -> None:
    """Both sides approve a version."""
    clerk = await a.enrol(Role.HEALTHCENTER)
    await a.submit(clerk.signer, Function.AUTHORIZE_EMR_READING, patient.emr_id or "", B, version, "k1")
    await a.submit(patient.signer, Function.APPROVE_EMR_SHARING, B, version)


async def share(a: RecordsHospital, patient: Person, version: int) -> None:
    """What the sharer does after both approvals."""
    await approve(a, patient, version)
    snapshots = Snapshots(a.foundation.ledger, a.wired.content.emr_keys)
    committed = await snapshots.share(await snapshots.sharing(patient.emr_id or "", B))
    await a.seen_everywhere(committed.block)


@pytest.fixture
async def reader(b: RecordsHospital) -> Person:
    return await b.enrol(Role.PHYSICIAN)


async def read(b: RecordsHospital, reader: Person, patient: Person) -> Any:
    receipt = await post_disclosure(b, reader, A, patient.patient_id)
    assert receipt.status_code == 201, receipt.text
    return await get(b, reader, f"/disclosures/{receipt.json()['receipt']}/emr")


async def test_nothing_is_disclosed_before_both_approved(
    a: RecordsHospital, b: RecordsHospital, physician: Person, patient: Person, reader: Person
) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle())
    assert code(await post_disclosure(b, reader, A, patient.patient_id)) == (403, "ACCESS_NOT_GRANTED")
    assert code(await post_disclosure(b, reader, A, "0" * 32)) == (403, "ACCESS_NOT_GRANTED")
    await approve(a, patient, 1)
    assert code(await post_disclosure(b, reader, A, patient.patient_id)) == (409, "SNAPSHOT_PENDING")


async def test_the_snapshot_is_read_with_a_receipt_and_leaves_its_traces(
    a: RecordsHospital, b: RecordsHospital, physician: Person, patient: Person, reader: Person
) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle("1"))
    await share(a, patient, 1)
    await post_note(a, physician, patient.emr_id, note_bundle("2"))
    disclosed = (await post_disclosure(b, reader, A, patient.patient_id)).json()
    assert (disclosed["emrId"], disclosed["version"]) == (patient.emr_id, 1)
    assert disclosed["receipt"] == f"{patient.emr_id}.{disclosed['transactionId']}"
    shared = (await get(b, reader, f"/disclosures/{disclosed['receipt']}/emr")).json()
    own = (await get(a, physician, f"/emrs/{patient.emr_id}/notes/1")).json()
    assert [note["content"] for note in shared["notes"]] == [own["content"]]
    assert shared["notes"][0]["commitment"] == own["commitment"]
    assert shared["demographics"]["resourceType"] == "Patient"
    assert (shared["ownerMsp"], shared["purpose"], shared["sha256"]) == (A, "TREAT", disclosed["sha256"])
    query = sa.select(access_log.c.reader, access_log.c.owner_msp, access_log.c.purpose, access_log.c.transaction_id)
    async with b.engine.connect() as connection:
        rows = await connection.execute(query.where(access_log.c.emr_id == patient.emr_id))
        assert [tuple(row) for row in rows] == [(reader.enrolment_id, A, "TREAT", disclosed["transactionId"])]
    (seen,) = (await get(a, patient, "/me/disclosures")).json()["disclosures"]
    assert (seen["reader"], seen["recipientMsp"], seen["version"]) == (reader.enrolment_id, B, 1)


async def test_a_receipt_is_good_for_its_reader_only_and_ends_with_the_sharing(
    a: RecordsHospital, b: RecordsHospital, physician: Person, patient: Person, reader: Person
) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle())
    await share(a, patient, 1)
    receipt = (await post_disclosure(b, reader, A, patient.patient_id)).json()["receipt"]
    colleague = await b.enrol(Role.PHYSICIAN)
    assert code(await get(b, colleague, f"/disclosures/{receipt}/emr")) == (403, "RECEIPT_INVALID")
    assert code(await get(b, reader, f"/disclosures/{patient.emr_id}.{'0' * 64}/emr")) == (403, "RECEIPT_INVALID")
    assert code(await get(b, reader, "/disclosures/x/emr")) == (422, "VALIDATION_FAILED")
    await a.submit(patient.signer, Function.REMOVE_EMR_SHARING, B)
    assert code(await get(b, reader, f"/disclosures/{receipt}/emr")) == (410, "RECEIPT_EXPIRED")
    assert code(await post_disclosure(b, reader, A, patient.patient_id)) == (403, "ACCESS_NOT_GRANTED")


async def test_a_disclosure_repeated_is_one_receipt(
    a: RecordsHospital, b: RecordsHospital, physician: Person, patient: Person, reader: Person
) -> None:
    await share(a, patient, 0)
    key = f"d-{patient.emr_id}"
    first, again = [await post_disclosure(b, reader, A, patient.patient_id, key=key) for _ in range(2)]
    assert first.json() == again.json()
    assert len((await get(a, patient, "/me/disclosures")).json()["disclosures"]) == 1


async def test_a_body_that_asks_for_no_known_purpose_is_refused(b: RecordsHospital, reader: Person) -> None:
    headers = reader.headers(Idempotency_Key="k-purpose")
    body = {"ownerMsp": A, "patientId": "0" * 32, "purpose": "CANARY"}
    response = await b.http.post("/disclosures", json=body, headers=headers)
    assert code(response) == (422, "VALIDATION_FAILED")
    assert "CANARY" not in response.text


async def forged(a: RecordsHospital, b: RecordsHospital, patient: Person, content: bytes) -> None:
    """An owner's service that shares something else than what the ledger has commitments to."""
    await approve(a, patient, 1)
    opened = (await a.wired.content.own_emr(await _caller(a, patient))).demographics
    demographics = SnapshotDemographics(1, opened.salt, opened.canonical)
    note = SnapshotNote(1, "0" * 32, b"s" * 32, content)
    bound_to = associated_data(
        channel=CHANNEL, owner=A, recipient=B, kind="snapshot", emr_id=patient.emr_id or "", version=1
    )
    key = SealingPublicKey(b.wired.disclosures.private_key.public_keyset())
    sealed = key.seal(build(demographics, [note]), bound_to)
    await a.submit(
        a.foundation.ledger.service,
        Function.SHARE_EMR_SNAPSHOT,
        patient.emr_id or "",
        B,
        1,
        hashlib.sha256(sealed).hexdigest(),
        transient={"snapshot": sealed},
    )


async def _caller(a: RecordsHospital, person: Person) -> Any:
    return await a.foundation.wallet.find_enrolled(person.enrolment_id)


@pytest.mark.parametrize("content", [b"CANARY", b'{"resourceType":"CANARY"}', b'{"a":1,"a":2}'])
async def test_a_snapshot_with_content_that_is_no_note_is_refused(
    a: RecordsHospital,
    b: RecordsHospital,
    physician: Person,
    patient: Person,
    reader: Person,
    content: bytes,
) -> None:
    await post_note(a, physician, patient.emr_id, note_bundle())
    await forged(a, b, patient, content)
    response = await read(b, reader, patient)
    assert code(response) == (500, "CONTENT_MISMATCH")
    assert "CANARY" not in response.text


async def test_sealed_bytes_other_than_the_ledger_says_are_refused(
    a: RecordsHospital,
    b: RecordsHospital,
    patient: Person,
    reader: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await share(a, patient, 0)
    receipt = (await post_disclosure(b, reader, A, patient.patient_id)).json()["receipt"]
    evaluate = b.foundation.ledger.evaluate

    async def changed(*arguments: Any, **options: Any) -> bytes:
        shared = SharedEmr.from_json(await evaluate(*arguments, **options)).to_wire()
        return SharedEmr.from_wire({**shared, "sha256": "0" * 64}).to_json()

    monkeypatch.setattr(b.foundation.ledger, "evaluate", changed)
    assert code(await get(b, reader, f"/disclosures/{receipt}/emr")) == (500, "CONTENT_MISMATCH")
