from __future__ import annotations

import secrets

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from emr_common.problems import Problem
from emr_common.sealing import SealingFailed, WrappingKey
from emr_common.wallet import AlreadyEnrolled, Wallet
from emr_model.ledger.functions import Role
from emr_readmodel.hospital import wallet as table
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.crypto import verify
from sqlalchemy.ext.asyncio import AsyncEngine

ISSUER = "https://issuer.example"
CA = CertificateAuthority.create("ca.a.care.example", "a.care.example")


@pytest.fixture
def wallet(engine: AsyncEngine, wrapping: WrappingKey) -> Wallet:
    return Wallet(engine, wrapping, "HospitalA")


def certified(enrolment_id: str) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    key = new_private_key()
    return certificate_to_pem(CA.issue(enrolment_id, key.public_key(), organizational_units=["client"])), key


async def add(wallet: Wallet, engine: AsyncEngine, subject: str, enrolment_id: str, *, holds_key: bool = True) -> bytes:
    certificate, key = certified(enrolment_id)
    async with engine.begin() as connection:
        await wallet.add(
            connection,
            issuer=ISSUER,
            subject=subject,
            enrolment_id=enrolment_id,
            role=Role.PATIENT,
            certificate_pem=certificate,
            private_key=key if holds_key else None,
            patient_id="a" * 32,
            emr_id="b" * 32,
        )
    return certificate


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


async def test_a_stored_identity_signs_as_its_certificate(wallet: Wallet, engine: AsyncEngine) -> None:
    subject, enrolment_id = unique("s"), unique("p")
    certificate = await add(wallet, engine, subject, enrolment_id)
    caller = await wallet.find(ISSUER, subject)
    assert caller is not None
    assert (caller.enrolment_id, caller.role, caller.patient_id) == (enrolment_id, Role.PATIENT, "a" * 32)
    assert caller.signer.msp_id == "HospitalA"
    assert caller.signer.certificate_pem == certificate
    public_key = caller.signer.private_key.public_key()
    assert verify(public_key, caller.signer.sign(b"message"), b"message")


async def test_a_subject_counts_at_its_own_issuer_only(wallet: Wallet, engine: AsyncEngine) -> None:
    subject = unique("s")
    await add(wallet, engine, subject, unique("p"))
    assert await wallet.find("https://other.example", subject) is None
    assert await wallet.find(ISSUER, unique("nobody")) is None


async def test_the_private_key_is_not_in_the_table(wallet: Wallet, engine: AsyncEngine) -> None:
    subject, enrolment_id = unique("s"), unique("p")
    await add(wallet, engine, subject, enrolment_id)
    caller = await wallet.find(ISSUER, subject)
    assert caller is not None
    der = caller.signer.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    number = caller.signer.private_key.private_numbers().private_value.to_bytes(32, "big")
    async with engine.connect() as connection:
        query = sa.select(table.c.sealed_private_key).where(table.c.enrolment_id == enrolment_id)
        stored: bytes = (await connection.execute(query)).scalar_one()
    assert der not in stored
    assert number not in stored


async def test_a_sealed_key_moved_to_another_row_does_not_open(wallet: Wallet, engine: AsyncEngine) -> None:
    mine, theirs = unique("p"), unique("p")
    await add(wallet, engine, mine, mine)
    await add(wallet, engine, theirs, theirs)
    async with engine.begin() as connection:
        stolen = sa.select(table.c.sealed_private_key).where(table.c.enrolment_id == theirs).scalar_subquery()
        await connection.execute(sa.update(table).where(table.c.enrolment_id == mine).values(sealed_private_key=stolen))
    with pytest.raises(SealingFailed):
        await wallet.find(ISSUER, mine)


async def test_a_revoked_identity_is_unknown_at_once_to_every_instance(
    wallet: Wallet, engine: AsyncEngine, wrapping: WrappingKey
) -> None:
    subject, enrolment_id = unique("s"), unique("p")
    other_instance = Wallet(engine, wrapping, "HospitalA")
    await add(wallet, engine, subject, enrolment_id)
    assert await other_instance.find(ISSUER, subject) is not None
    async with engine.begin() as connection:
        assert await wallet.revoke(connection, enrolment_id)
    assert await wallet.find(ISSUER, subject) is None
    assert await other_instance.find(ISSUER, subject) is None
    async with engine.begin() as connection:
        assert not await wallet.revoke(connection, enrolment_id)


async def test_a_subject_is_enrolled_once(wallet: Wallet, engine: AsyncEngine) -> None:
    subject = unique("s")
    await add(wallet, engine, subject, unique("p"))
    with pytest.raises(AlreadyEnrolled):
        await add(wallet, engine, subject, unique("p"))


async def test_who_keeps_the_key_cannot_be_signed_for(wallet: Wallet, engine: AsyncEngine) -> None:
    subject = unique("s")
    await add(wallet, engine, subject, unique("p"), holds_key=False)
    caller = await wallet.find(ISSUER, subject)
    assert caller is not None
    with pytest.raises(Problem):
        _ = caller.signer
