"""Staff, hospitals' profiles and erasure, on the whole system."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import pytest
import pytest_asyncio
from emr_common.sealing import SealingPrivateKey
from emr_model.ledger.functions import Function
from hlf.errors import HlfError
from hlf.gateway import Endpoint, Gateway
from support.registration_instance import registration_instance, unique
from support.stack import Actor, Stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def healthcenter(stack: Stack) -> Actor:
    return await stack.staff("a", "healthcenter")


@pytest.fixture
def admin(stack: Stack) -> Actor:
    return Actor("a", "admin", "admin", "admin")


async def test_staff_act_in_the_role_they_were_enrolled_for(stack: Stack) -> None:
    for role in ("healthcenter", "physician", "admin"):
        person = await stack.staff("a", role)
        me = (await stack.call(person, "registration", "GET", "/me")).required()
        assert (me["role"], me["enrolmentId"], me["patientId"]) == (role, person.enrolment_id, None)


@pytest.mark.parametrize(
    "body", [{}, {"subject": "s"}, {"subject": "s", "role": "patient"}, {"subject": "s", "role": "service"}]
)
async def test_staff_are_not_enrolled_as_anything_else(stack: Stack, admin: Actor, body: dict[str, Any]) -> None:
    answer = await stack.call(admin, "registration", "POST", "/staff", body)
    assert answer.code == "VALIDATION_FAILED"


async def test_the_same_idempotency_key_enrols_once(stack: Stack, admin: Actor) -> None:
    body, headers = {"subject": unique("staff"), "role": "physician"}, {"Idempotency-Key": secrets.token_hex(8)}
    first = await stack.call(admin, "registration", "POST", "/staff", body, headers=headers)
    again = await stack.call(admin, "registration", "POST", "/staff", body, headers=headers)
    assert first.body == again.body
    other_key = await stack.call(admin, "registration", "POST", "/staff", body)
    assert other_key.code == "SUBJECT_ALREADY_ENROLLED"


@pytest.mark.parametrize("role", ["healthcenter", "physician"])
async def test_only_an_admin_enrols_and_revokes(stack: Stack, role: str) -> None:
    person = await stack.staff("a", role)
    enrols = await stack.call(person, "registration", "POST", "/staff", {"subject": unique("s"), "role": role})
    revokes = await stack.call(person, "registration", "DELETE", f"/staff/{person.enrolment_id}")
    assert enrols.code == revokes.code == "ROLE_NOT_ALLOWED"


async def test_a_revoked_certificate_counts_nowhere(
    stack: Stack, admin: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await stack.staff("a", "physician")
    async with registration_instance(stack, "a", monkeypatch) as instance:
        caller = await instance.services.enrolment.find(person.subject)
        assert caller is not None
        await instance.services.ledger.evaluate(caller, Function.LIST_ORGANIZATIONS)
    revoked = await stack.call(admin, "registration", "DELETE", f"/staff/{person.enrolment_id}")
    assert revoked.status == 200
    assert (await stack.call(person, "registration", "GET", "/me")).code == "IDENTITY_UNKNOWN"
    await stack.revoke_on_the_network(person)

    async def is_refused_by_the_peer() -> bool:
        try:
            await ask_directly(stack, caller)
        except HlfError:
            return True
        return False

    await stack.until(is_refused_by_the_peer, "the peer knows of the revocation", 10)
    again = await stack.call(admin, "registration", "DELETE", f"/staff/{person.enrolment_id}")
    assert again.status == 200


async def test_a_certificate_that_only_the_channel_refuses_is_told_as_such_and_nothing_else_is(
    stack: Stack, healthcenter: Actor
) -> None:
    """`emr network revoke` and not `emr staff revoke`: the hospital's own wallet knows nothing of it."""
    patient, person = await stack.patient(healthcenter), await stack.staff("a", "physician")
    emr, notes = f"/emrs/{patient.emr_id}", f"/emrs/{patient.emr_id}/notes"
    assert (await stack.call(person, "records", "GET", emr)).status == 200
    await stack.revoke_on_the_network(person)

    async def is_refused() -> bool:
        return (await stack.call(person, "records", "GET", emr)).code == "CERTIFICATE_REFUSED"

    await stack.until(is_refused, "the peers know of the revocation", 10)
    read = await stack.call(person, "records", "GET", notes)
    written = await stack.call(person, "records", "POST", notes, {"text": "From a revoked physician."})
    assert [(one.status, one.code) for one in (read, written)] == [(403, "CERTIFICATE_REFUSED")] * 2
    assert (await stack.add_note(await stack.staff("a", "physician"), patient.emr_id))["version"] == 1


async def test_a_patient_whose_certificate_is_renewed_acts_by_both_with_the_key_that_is_bound(
    stack: Stack, healthcenter: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await stack.patient(healthcenter)
    async with registration_instance(stack, "a", monkeypatch) as instance:
        before = await instance.services.enrolment.with_id(patient.enrolment_id)
        assert await instance.services.renewal.renew(patient.enrolment_id)
        after = await instance.services.enrolment.with_id(patient.enrolment_id)
    assert before is not None
    assert after is not None
    assert before.certificate_pem != after.certificate_pem
    for caller in (before, after):
        await ask_directly(stack, caller, "GetOwnEmr")
    assert (await stack.call(patient, "records", "GET", "/me/emr")).status == 200
    requested = await stack.call(patient, "registration", "POST", "/me/erasure-request")
    assert requested.status == 201


async def ask_directly(stack: Stack, caller: Any, function: str = "ListOrganizations") -> None:
    from emr_network.material import peer_organization

    certificate = peer_organization(stack.home, stack.hospital("a")).tls_ca_certificate.read_bytes()
    async with Gateway([Endpoint(stack.system.ports.address("peer-a"), certificate)]) as gateway:
        contract = gateway.contract(caller.signer, "care", "emr")
        await contract.evaluate(function, target_organizations=["HospitalA"])


async def test_revoking_is_for_staff_only(stack: Stack, admin: Actor, healthcenter: Actor) -> None:
    patient = await stack.patient(healthcenter)
    for unknown in (patient.enrolment_id, "h-0000000000000000"):
        answer = await stack.call(admin, "registration", "DELETE", f"/staff/{unknown}")
        assert answer.code == "STAFF_NOT_FOUND"


async def test_a_hospital_publishes_its_own_profile_only(stack: Stack, admin: Actor, healthcenter: Actor) -> None:
    profile = (await stack.call(healthcenter, "registration", "GET", "/organizations/HospitalA")).required()
    key = base64.b64encode(SealingPrivateKey.generate().public_keyset()).decode()
    body = {"name": profile["name"], "sealingKeys": profile["sealingKeys"]}
    other = {"name": "Hospital B", "sealingKeys": [{"id": "k", "keyset": key}]}
    refused = await stack.call(admin, "registration", "PUT", "/organizations/HospitalB", other)
    by_staff = await stack.call(healthcenter, "registration", "PUT", "/organizations/HospitalA", body)
    assert (refused.code, by_staff.code) == ("ORGANIZATION_NOT_OWN", "ROLE_NOT_ALLOWED")
    again = await stack.call(admin, "registration", "PUT", "/organizations/HospitalA", body)
    assert again.status == 200
    assert {"transactionId", "block"} <= again.body.keys()
    listed = (await stack.call(healthcenter, "registration", "GET", "/organizations")).required()
    assert [one["mspId"] for one in listed["organizations"]] == ["HospitalA", "HospitalB"]


@pytest.mark.parametrize("keyset", ["", "AAAA", "not base64"])
async def test_what_is_no_public_key_is_not_published(stack: Stack, admin: Actor, keyset: str) -> None:
    body = {"name": "Hospital A", "sealingKeys": [{"id": "k", "keyset": keyset}]}
    answer = await stack.call(admin, "registration", "PUT", "/organizations/HospitalA", body)
    assert answer.code == "VALIDATION_FAILED"


async def test_an_unknown_hospital_is_not_found(stack: Stack, admin: Actor) -> None:
    answer = await stack.call(admin, "registration", "GET", "/organizations/HospitalZ")
    assert answer.code == "ORGANIZATION_NOT_FOUND"


async def traces_of(stack: Stack, emr_id: str) -> int:
    query = """
        select (select count(*) from hospital.emr_key where emr_id = $1)
             + (select count(*) from hospital.patient_identifier where emr_id = $1)
             + (select count(*) from hospital.wallet where emr_id = $1) as count
    """
    return int((await stack.sql("a", query, emr_id))[0]["count"])


async def test_an_emr_is_erased_on_its_patients_wish_alone(stack: Stack, healthcenter: Actor) -> None:
    resource = stack.patient_resource()
    patient = await stack.patient(healthcenter, resource)
    erase = ("registration", "DELETE", f"/emrs/{patient.emr_id}")
    assert (await stack.call(healthcenter, *erase)).code == "ERASURE_NOT_REQUESTED"
    assert (await stack.call(patient, "registration", "POST", "/me/erasure-request")).status == 201
    assert (await stack.call(patient, "registration", "DELETE", "/me/erasure-request")).status == 200
    assert (await stack.call(healthcenter, *erase)).code == "ERASURE_NOT_REQUESTED"
    assert (await stack.call(patient, "registration", "POST", "/me/erasure-request")).status == 201
    assert await traces_of(stack, patient.emr_id) == 3
    erased = await stack.call(healthcenter, *erase)
    assert erased.status == 200
    assert {"emrId", "transactionId", "block"} == erased.body.keys()
    assert await traces_of(stack, patient.emr_id) == 0
    assert (await stack.call(healthcenter, *erase)).code == "EMR_ERASED"
    assert (await stack.call(patient, "registration", "GET", "/me")).code == "IDENTITY_UNKNOWN"
    returned = await stack.patient(healthcenter, resource)
    assert returned.emr_id != patient.emr_id


async def test_an_erasure_that_broke_off_is_finished(
    stack: Stack, healthcenter: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_request, by_itself = await stack.patient(healthcenter), await stack.patient(healthcenter)
    async with registration_instance(stack, "a", monkeypatch) as instance:
        services = instance.services
        caller = await services.enrolment.find(healthcenter.subject)
        assert caller is not None
        for patient in (by_request, by_itself):
            await stack.call(patient, "registration", "POST", "/me/erasure-request")
            committed = await services.ledger.submit(caller, Function.ERASE_EMR, patient.emr_id)
            assert await traces_of(stack, patient.emr_id) == 3
        repeated = await stack.call(healthcenter, "registration", "DELETE", f"/emrs/{by_request.emr_id}")
        assert repeated.status == 200
        await stack.wait_for_rows("a", committed.block)
        await services.erasure.finish_all()
    assert await traces_of(stack, by_request.emr_id) == await traces_of(stack, by_itself.emr_id) == 0


async def test_another_hospitals_healthcenter_erases_nothing(stack: Stack, healthcenter: Actor) -> None:
    patient, stranger = await stack.patient(healthcenter), await stack.staff("b", "healthcenter")
    await stack.call(patient, "registration", "POST", "/me/erasure-request")
    answer = await stack.call(stranger, "registration", "DELETE", f"/emrs/{patient.emr_id}")
    assert answer.code == "EMR_NOT_OWNED"
    assert await traces_of(stack, patient.emr_id) == 3
