"""From enrolment through renewal to revocation, with the development CA and official fabric-ca."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from emr_common.problems import Problem
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from emr_common.wallet import Caller, Wallet
from emr_model.ledger.functions import Role
from emr_registration.certificate_request import CertificateRequest, checked_request
from emr_registration.enrolment import Enrolment, Person
from emr_registration.handlers import revoke_staff
from emr_registration.renewal import Renewal, is_due
from hlf.ca import CaClient
from hlf.certs import CertificateAuthority, certificate_to_pem, new_csr, new_private_key
from hlf.errors import CaError
from hlf.identity import Identity, SigningIdentity
from sqlalchemy.ext.asyncio import AsyncEngine
from support.ca_servers import REGISTRAR, SECRET, Server, ca_server

ISSUER = "https://issuer.example"


@dataclass
class Hospital:
    ca: CaClient
    registrar: SigningIdentity
    wallet: Wallet
    enrolment: Enrolment
    renewal: Renewal

    async def patient(self) -> Caller:
        ids = secrets.token_hex(16), secrets.token_hex(16)
        return await self.enrolment.enrol(Person(f"s-{secrets.token_hex(8)}", Role.PATIENT, *ids))

    async def keeps_key(self, role: Role, key: ec.EllipticCurvePrivateKey) -> Caller:
        ids = (secrets.token_hex(16), secrets.token_hex(16)) if role is Role.PATIENT else (None, None)
        request = checked_request(new_csr(f"{role.value[0]}-{secrets.token_hex(8)}", key).decode(), role)
        return await self.enrolment.enrol(Person(f"s-{secrets.token_hex(8)}", role, *ids), request)

    async def found(self, caller: Caller) -> Caller:
        again = await self.wallet.find_enrolled(caller.enrolment_id)
        assert again is not None
        return again


@pytest.fixture(scope="module", params=["devnet", "official"])
def ca(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ca_server(request.param, tmp_path_factory.mktemp("ca")) as running:
        yield running


@pytest.fixture
async def hospital(ca: Server, engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Hospital]:
    keyset = tmp_path / "wallet.keyset"
    keyset.write_text(new_wrapping_keyset())
    async with CaClient(ca.url, ca.tls_ca_pem) as client:
        registrar = (await client.enroll(REGISTRAR, SECRET)).signing_identity("HospitalA")
        wallet = Wallet(engine, WrappingKey.from_file(keyset), "HospitalA")
        enrolment = Enrolment(client, registrar, engine, wallet, ISSUER)
        yield Hospital(client, registrar, wallet, enrolment, Renewal(client, wallet, "HospitalA"))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("delete from hospital.wallet")


def certificate_of(caller: Caller) -> x509.Certificate:
    return x509.load_pem_x509_certificate(caller.certificate_pem)


def nearly_over(caller: Caller) -> datetime:
    certificate = certificate_of(caller)
    return certificate.not_valid_after_utc - (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 4


async def test_a_certificate_is_renewed_for_the_same_key_and_person(hospital: Hospital) -> None:
    patient = await hospital.patient()
    assert await hospital.renewal.renew_due(nearly_over(patient)) == 1
    renewed = await hospital.found(patient)
    before, after = certificate_of(patient), certificate_of(renewed)
    assert after.serial_number != before.serial_number
    assert after.public_key() == before.public_key()
    attributes = Identity("HospitalA", renewed.certificate_pem).attributes
    assert attributes["emr.role"] == "patient"
    assert attributes["emr.patientId"] == patient.patient_id
    assert renewed.signer.certificate_pem == renewed.certificate_pem


async def test_the_certificate_from_before_a_renewal_still_counts_at_the_ca(hospital: Hospital) -> None:
    patient = await hospital.patient()
    await hospital.renewal.renew(patient.enrolment_id)
    await hospital.ca.reenroll(patient.signer)
    await hospital.ca.reenroll((await hospital.found(patient)).signer)


def request_of(caller: Caller, key: ec.EllipticCurvePrivateKey, name: str = "") -> CertificateRequest:
    found = checked_request(new_csr(name or caller.enrolment_id, key).decode(), caller.role)
    assert found is not None
    return found


def signature_of(key: ec.EllipticCurvePrivateKey, signed: bytes) -> str:
    """As OpenSSL makes it: the larger ``s`` half of the time."""
    return base64.b64encode(key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()


async def test_who_keeps_the_key_renews_by_a_signature(hospital: Hospital) -> None:
    for role in (Role.PATIENT, Role.PHYSICIAN):
        key = new_private_key()
        caller = await hospital.keeps_key(role, key)
        request = request_of(caller, key)
        for _ in range(3):
            caller = await hospital.found(caller)
            signature = signature_of(key, hospital.renewal.to_sign(caller, request))
            renewed = await hospital.renewal.renew_signed(caller, request, signature)
            found = await hospital.found(caller)
            assert (found.certificate_pem, found.held_signer) == (renewed, None)
            assert certificate_of(found).serial_number != certificate_of(caller).serial_number
        attributes = Identity("HospitalA", renewed).attributes
        assert (attributes["emr.role"], attributes.get("emr.patientId")) == (role.value, caller.patient_id)


async def test_staff_may_take_another_key_and_the_earlier_one_signs_for_it(hospital: Hospital) -> None:
    key, other = new_private_key(), new_private_key()
    caller = await hospital.keeps_key(Role.PHYSICIAN, key)
    request = request_of(caller, other)
    to_sign = hospital.renewal.to_sign(caller, request)
    with pytest.raises(Problem, match="SIGNATURE_INVALID"):
        await hospital.renewal.renew_signed(caller, request, signature_of(other, to_sign))
    await hospital.renewal.renew_signed(caller, request, signature_of(key, to_sign))
    assert certificate_of(await hospital.found(caller)).public_key() == other.public_key()
    with pytest.raises(Problem, match="CONFLICT"):
        await hospital.renewal.renew_signed(caller, request, signature_of(key, to_sign))


async def test_a_renewal_is_refused(hospital: Hospital) -> None:
    key, other = new_private_key(), new_private_key()
    patient, held = await hospital.keeps_key(Role.PATIENT, key), await hospital.patient()
    with pytest.raises(Problem, match="another key of a patient is bound by admission"):
        hospital.renewal.to_sign(patient, request_of(patient, other))
    with pytest.raises(Problem, match="its common name is not"):
        hospital.renewal.to_sign(patient, request_of(patient, key, "p-0123456789abcdef"))
    with pytest.raises(Problem, match="KEY_HELD_HERE"):
        hospital.renewal.to_sign(held, request_of(held, key))
    request = request_of(patient, key)
    signature = signature_of(key, hospital.renewal.to_sign(patient, request))
    await hospital.enrolment.revoke(patient.enrolment_id)
    with pytest.raises(Problem, match="CERTIFICATE_REQUEST_INVALID: the earlier certificate does not count"):
        await hospital.renewal.renew_signed(patient, request, signature)


async def test_what_is_not_due_is_left_alone(hospital: Hospital) -> None:
    patient = await hospital.patient()
    assert await hospital.renewal.renew_due() == 0
    assert (await hospital.found(patient)).certificate_pem == patient.certificate_pem


async def test_a_revoked_identity_is_not_renewed_and_all_its_certificates_are_on_the_list(hospital: Hospital) -> None:
    patient = await hospital.patient()
    await hospital.renewal.renew(patient.enrolment_id)
    renewed = await hospital.found(patient)
    await hospital.enrolment.revoke(patient.enrolment_id)
    assert await hospital.renewal.renew_due(nearly_over(patient)) == 0
    assert not await hospital.renewal.renew(patient.enrolment_id)
    assert await hospital.wallet.find(ISSUER, patient.subject) is None
    with pytest.raises(CaError):
        await hospital.ca.reenroll(renewed.signer)
    revoked = x509.load_pem_x509_crl(await hospital.ca.gencrl(hospital.registrar))
    for caller in (patient, renewed):
        assert revoked.get_revoked_certificate_by_serial_number(certificate_of(caller).serial_number) is not None


async def test_an_administrator_is_ended_by_another_and_not_by_mistake(hospital: Hospital) -> None:
    one, other = [await hospital.enrolment.enrol(Person(subject, Role.ADMIN)) for subject in ("one", "other")]
    with pytest.raises(Problem, match="ROLE_NOT_ALLOWED"):
        await revoke_staff(hospital.enrolment, one, one.enrolment_id)
    assert await hospital.wallet.find(ISSUER, one.subject) is not None
    await revoke_staff(hospital.enrolment, one, other.enrolment_id)
    assert await hospital.wallet.find(ISSUER, other.subject) is None


async def test_a_revocation_during_a_renewal_wins(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = await hospital.patient()
    reenroll = hospital.ca.reenroll

    async def revoked_meanwhile(*given: object, **named: object) -> object:
        answer = await reenroll(*given, **named)  # type: ignore[arg-type]
        await hospital.enrolment.revoke(patient.enrolment_id)
        return answer

    monkeypatch.setattr(hospital.ca, "reenroll", revoked_meanwhile)
    assert not await hospital.renewal.renew(patient.enrolment_id)
    assert (await hospital.found(patient)).held_signer is None


async def test_a_revocation_that_the_ca_has_missed_is_made_good(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, other = await hospital.patient(), await hospital.patient()

    async def is_away(*_: object, **__: object) -> object:
        raise CaError("the CA is away")

    with monkeypatch.context() as away:
        away.setattr(hospital.ca, "revoke", is_away)
        with pytest.raises(Problem):
            await hospital.enrolment.revoke(patient.enrolment_id)
    assert await hospital.wallet.find(ISSUER, patient.subject) is None
    await hospital.ca.reenroll(patient.signer)
    assert [await hospital.enrolment.finish_revocations() for _ in range(2)] == [1, 0]
    with pytest.raises(CaError):
        await hospital.ca.reenroll(patient.signer)
    await hospital.ca.reenroll(other.signer)


async def test_one_that_cannot_be_renewed_holds_up_no_other(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = sorted([await hospital.patient() for _ in range(3)], key=lambda one: one.enrolment_id)
    reenroll = hospital.ca.reenroll

    async def fails_for_the_first(identity: SigningIdentity, **named: object) -> object:
        if identity.identity.common_name == people[0].enrolment_id:
            raise CaError("the CA is away")
        return await reenroll(identity, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(hospital.ca, "reenroll", fails_for_the_first)
    assert await hospital.renewal.renew_due(nearly_over(people[2]) + timedelta(minutes=1)) == 2


def test_the_last_third_of_a_certificates_time_is_for_its_renewal() -> None:
    authority = CertificateAuthority.create("ca.a.care.example", "a.care.example")
    pem = certificate_to_pem(authority.issue("p", new_private_key().public_key(), organizational_units=["client"]))
    certificate = x509.load_pem_x509_certificate(pem)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert [is_due(pem, start + (end - start) * part) for part in (0.5, 0.66, 0.67, 0.9)] == [False, False, True, True]
