"""Rotating a keyset under running services: at every step everything opens, and at the end by the new key alone."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa
from emr_common import keysets
from emr_common.emr_keys import EmrKeys
from emr_common.keysets import RotationRefused
from emr_common.resealing import BY_KEYSET, EMR_KEYS, WALLET, Resealing
from emr_common.sealing import SealingFailed, WrappingKey, new_wrapping_keyset
from emr_common.wallet import Wallet
from emr_model.ledger.functions import Role
from emr_readmodel.columns import metadata
from emr_readmodel.hospital import emr_key
from emr_readmodel.hospital import wallet as table
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from sqlalchemy.ext.asyncio import AsyncEngine

CA = CertificateAuthority.create("ca.a.care.example", "a.care.example")
ISSUER = "https://issuer.example"


class Service:
    """An instance with its own reading of the keyset's file."""

    def __init__(self, engine: AsyncEngine, keyset: Path) -> None:
        self._engine = engine
        self.wallet = Wallet(engine, WrappingKey.from_file(keyset), "HospitalA")

    async def enrol(self) -> str:
        subject, key = f"s-{secrets.token_hex(8)}", new_private_key()
        certificate = CA.issue(subject, key.public_key(), organizational_units=["client"])
        async with self._engine.begin() as connection:
            await self.wallet.add(
                connection,
                issuer=ISSUER,
                subject=subject,
                enrolment_id=subject,
                role=Role.PHYSICIAN,
                certificate_pem=certificate_to_pem(certificate),
                private_key=key,
            )
        return subject

    async def opens(self, subject: str) -> bool:
        try:
            caller = await self.wallet.find(ISSUER, subject)
        except SealingFailed:
            return False
        return caller is not None and caller.signer is not None


@pytest.fixture(autouse=True)
async def _nothing_sealed_by_other_tests(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.delete(table))
        await connection.execute(sa.delete(emr_key))


@pytest.fixture
def keyset(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.keyset"
    path.write_text(new_wrapping_keyset())
    return path


def change(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


async def test_a_keyset_is_rotated_under_two_services(engine: AsyncEngine, keyset: Path) -> None:
    before = keyset.read_text()
    services = [Service(engine, keyset), Service(engine, keyset)]
    subjects: list[str] = []

    async def both_seal_and_open() -> None:
        subjects.extend([await service.enrol() for service in services])
        for service in services:
            assert all([await service.opens(subject) for subject in subjects])

    await both_seal_and_open()
    for step in (keysets.added, keysets.promoted):
        change(keyset, step(keyset.read_text()))
        await both_seal_and_open()
    resealing = Resealing(engine, WrappingKey.from_file(keyset), WALLET)
    assert await resealing.remaining() == 4
    assert await resealing.run() == 4
    assert await resealing.remaining() == 0
    change(keyset, keysets.retired(keyset.read_text()))
    await both_seal_and_open()
    change(keyset, before)
    assert not any([await Service(engine, keyset).opens(subject) for subject in subjects])


async def test_what_changes_while_it_is_sealed_anew_is_not_undone(engine: AsyncEngine, keyset: Path) -> None:
    service = Service(engine, keyset)
    subjects = [await service.enrol() for _ in range(30)]
    change(keyset, keysets.promoted(keysets.added(keyset.read_text())))

    async def revoke() -> None:
        for subject in subjects[::3]:
            async with engine.begin() as connection:
                await service.wallet.revoke(connection, subject)

    resealings = [Resealing(engine, WrappingKey.from_file(keyset), WALLET) for _ in range(2)]
    await asyncio.gather(revoke(), *(one.run() for one in resealings))
    change(keyset, keysets.retired(keyset.read_text()))
    fresh = Service(engine, keyset)
    assert [await fresh.opens(subject) for subject in subjects] == [number % 3 != 0 for number in range(30)]


async def test_the_emrs_keys_are_wrapped_anew(engine: AsyncEngine, keyset: Path) -> None:
    keys = EmrKeys(engine, WrappingKey.from_file(keyset))
    emr_id = secrets.token_hex(16)
    made = WrappingKey.from_file(keyset)
    async with engine.begin() as connection:
        key = await keys.create(connection, emr_id)
    sealed = key.seal(b"content", b"place")
    change(keyset, keysets.promoted(keysets.added(keyset.read_text())))
    resealing = Resealing(engine, made, EMR_KEYS)
    assert (await resealing.run(), await resealing.remaining()) == (1, 0)
    change(keyset, keysets.retired(keyset.read_text()))
    found = await EmrKeys(engine, WrappingKey.from_file(keyset)).get(emr_id)
    assert found.open(sealed, b"place") == b"content"


def test_each_step_of_a_rotation_has_its_time(keyset: Path) -> None:
    added = keysets.added(keyset.read_text())
    with pytest.raises(RotationRefused):
        keysets.added(added)
    with pytest.raises(RotationRefused):
        keysets.retired(added)
    promoted = keysets.promoted(added)
    assert keysets.promoted(promoted) == promoted
    assert keysets.key_ids(keysets.retired(promoted)) == keysets.key_ids(promoted)[-1:]


async def test_a_keyset_file_that_is_damaged_or_gone_leaves_the_keys_in_use(engine: AsyncEngine, keyset: Path) -> None:
    service = Service(engine, keyset)
    subject = await service.enrol()
    change(keyset, "{")
    assert await service.opens(await service.enrol())
    keyset.unlink()
    assert await service.opens(await service.enrol())
    assert await service.opens(subject)


def test_every_secret_that_a_keyset_seals_is_sealed_anew_with_it() -> None:
    said = {"wallet": "sealed by the wallet keyset", "wrapping": "encrypted by the hospital's wrapping keyset"}
    columns = [column for one in metadata.tables.values() for column in one.columns]
    for keyset, words in said.items():
        named = {column for column in columns if words in (column.comment or "")}
        assert named == {sealed.column for sealed in BY_KEYSET[keyset]}
        assert named
