from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from emr_common.next_keys import NextKeys
from emr_common.sealing import WrappingKey
from emr_common.wallet import Caller, Wallet
from emr_model.ledger.functions import Role
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from sqlalchemy.ext.asyncio import AsyncEngine

CA = CertificateAuthority.create("ca.a.care.example", "a.care.example")
NOW = datetime.now(UTC)
SOON, BEFORE = NOW + timedelta(hours=24), NOW - timedelta(seconds=1)


@pytest.fixture
def wallet(engine: AsyncEngine, wrapping: WrappingKey) -> Wallet:
    return Wallet(engine, wrapping, "HospitalA")


class Patient:
    """A patient in the wallet, whose further keys are ``bound``."""

    def __init__(self, engine: AsyncEngine, wallet: Wallet) -> None:
        self.next_keys = NextKeys(engine, wallet)
        self.emr_id, self.subject = secrets.token_hex(16), secrets.token_hex(8)
        self._engine, self._wallet = engine, wallet

    async def enrol(self) -> str:
        enrolment_id, certificate, key = certified()
        async with self._engine.begin() as connection:
            await self._wallet.add(
                connection,
                issuer="i",
                subject=self.subject,
                enrolment_id=enrolment_id,
                role=Role.PATIENT,
                certificate_pem=certificate,
                private_key=key,
                patient_id=secrets.token_hex(16),
                emr_id=self.emr_id,
            )
        return enrolment_id

    async def bound(self, counts_from: datetime | None, *, holds_key: bool = True) -> str:
        enrolment_id, certificate, key = certified()
        await self.next_keys.add(self.emr_id, enrolment_id, certificate, key if holds_key else None)
        if counts_from is not None:
            await self.next_keys.bind(self.emr_id, enrolment_id, counts_from)
        return enrolment_id

    async def caller(self) -> Caller:
        found = await self._wallet.find("i", self.subject)
        assert found is not None
        return found


def certified() -> tuple[str, bytes, ec.EllipticCurvePrivateKey]:
    enrolment_id, key = f"p-{secrets.token_hex(8)}", new_private_key()
    return enrolment_id, certificate_to_pem(CA.issue(enrolment_id, key.public_key())), key


@pytest.fixture
def patient(engine: AsyncEngine, wallet: Wallet) -> Patient:
    return Patient(engine, wallet)


async def test_a_key_stands_for_the_patient_from_its_time_on_and_never_before(patient: Patient) -> None:
    first = await patient.enrol()
    for counts_from in (None, SOON):
        await patient.bound(counts_from)
        assert (await patient.caller()).enrolment_id == first
    second = await patient.bound(BEFORE)
    caller = await patient.caller()
    assert (caller.enrolment_id, caller.emr_id) == (second, patient.emr_id)
    assert caller.signer.identity.common_name == second


async def test_a_key_that_its_holder_keeps_is_followed_by_no_key_of_the_hospitals(patient: Patient) -> None:
    await patient.enrol()
    await patient.bound(BEFORE, holds_key=False)
    assert (await patient.caller()).held_signer is None


async def test_binding_again_replaces_the_key_that_was_to_come(patient: Patient) -> None:
    await patient.enrol()
    replaced = await patient.bound(SOON)
    enrolment_id, certificate, key = certified()
    await patient.next_keys.add(patient.emr_id, enrolment_id, certificate, key)
    assert await patient.next_keys.bind(patient.emr_id, enrolment_id, SOON) == [replaced]
    assert await patient.next_keys.bind(patient.emr_id, enrolment_id, SOON) == []


async def test_a_key_that_counts_takes_the_place_of_the_one_before(patient: Patient) -> None:
    first = await patient.enrol()
    await patient.bound(BEFORE - timedelta(days=1))
    latest, to_come = await patient.bound(BEFORE), await patient.bound(SOON)
    assert first in await patient.next_keys.settle_in()
    assert await patient.next_keys.settle_in() == []
    assert (await patient.caller()).enrolment_id == latest
    await patient.next_keys.bind(patient.emr_id, to_come, BEFORE)
    assert latest in await patient.next_keys.settle_in()
    assert (await patient.caller()).signer.identity.common_name == to_come
