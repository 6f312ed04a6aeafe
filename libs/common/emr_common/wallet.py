"""The Fabric identities of the people and systems that call: found by a token's issuer and subject, keys sealed at
rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import asyncpg
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from emr_readmodel.hospital import patient_key, wallet
from hlf.identity import SigningIdentity
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_common.problems import Problem
from emr_common.sealing import WrappingKey
from emr_common.statements import Statement

SIGNERS_CACHED = 512
USE = "wallet-key"
REPLACED = ("enrolment_id", "certificate_pem", "sealed_private_key")
"""What another key of the same person changes."""


@dataclass(frozen=True)
class Caller:
    """Who calls, as the hospital enrolled them. The chaincode trusts the certificate, not this."""

    issuer: str
    subject: str
    enrolment_id: str
    role: Role
    patient_id: str | None
    emr_id: str | None
    certificate_pem: bytes
    held_signer: SigningIdentity | None

    @property
    def signer(self) -> SigningIdentity:
        """Raises Problem SIGNATURE_NEEDED for a caller who keeps their own key: those sign each step themselves."""
        if self.held_signer is None:
            raise Problem(Code.SIGNATURE_NEEDED)
        return self.held_signer


class AlreadyEnrolled(Exception):
    """The token's subject, or the enrolment id, has an identity in the wallet."""


class Wallet:
    """Table ``hospital.wallet``. A private key leaves it only as a Caller's signer."""

    def __init__(self, engine: AsyncEngine, keyset: WrappingKey, msp_id: str) -> None:
        self._engine = engine
        self._keyset = keyset
        self._msp_id = msp_id
        self._signer = lru_cache(SIGNERS_CACHED)(self._open_signer)

    async def find(self, issuer: str, subject: str) -> Caller | None:
        """The caller of a verified token; None for one who is not enrolled or was revoked. Never from a cache."""
        return await self._find(_STANDING, issuer=issuer, subject=subject)

    async def find_enrolled(self, enrolment_id: str) -> Caller | None:
        """By enrolment id, standing or revoked."""
        return await self._find(_ENROLLED, enrolment_id=enrolment_id)

    async def find_patient(self, patient_id: str) -> Caller | None:
        """By the ledger's id of a patient of this hospital, unless revoked."""
        return await self._find(_PATIENT, patient_id=patient_id)

    async def find_emr(self, emr_id: str) -> Caller | None:
        """The patient of an EMR of this hospital, unless revoked."""
        return await self._find(_OF_EMR, emr_id=emr_id)

    async def _find(self, statement: Statement, **given: str) -> Caller | None:
        row = await statement.row(self._engine, **given)
        return None if row is None else self._caller(row)

    def _caller(self, row: asyncpg.Record) -> Caller:
        sealed, pem = row["sealed_private_key"], row["certificate_pem"].encode()
        signer = None if sealed is None else self._signer(sealed, pem, row["enrolment_id"])
        return Caller(
            row["issuer"],
            row["subject"],
            row["enrolment_id"],
            Role(row["role"]),
            row["patient_id"],
            row["emr_id"],
            pem,
            signer,
        )

    def _open_signer(self, sealed: bytes, certificate_pem: bytes, enrolment_id: str) -> SigningIdentity:
        key = load_der_private_key(self._keyset.open(sealed, USE, enrolment_id), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return SigningIdentity(self._msp_id, certificate_pem, key)

    async def add(
        self,
        connection: AsyncConnection,
        *,
        issuer: str,
        subject: str,
        enrolment_id: str,
        role: Role,
        certificate_pem: bytes,
        private_key: ec.EllipticCurvePrivateKey | None,
        patient_id: str | None = None,
        emr_id: str | None = None,
    ) -> None:
        """Stores an identity in the caller's transaction. Raises AlreadyEnrolled; a failed transaction is then to be
        rolled back.
        """
        sealed = None if private_key is None else self.seal(private_key, enrolment_id)
        row = {
            "issuer": issuer,
            "subject": subject,
            "enrolment_id": enrolment_id,
            "role": role.value,
            "patient_id": patient_id,
            "emr_id": emr_id,
            "certificate_pem": certificate_pem.decode(),
            "sealed_private_key": sealed,
        }
        try:
            await connection.execute(sa.insert(wallet).values(row))
        except IntegrityError as error:
            raise AlreadyEnrolled(enrolment_id) from error

    def seal(self, private_key: ec.EllipticCurvePrivateKey, enrolment_id: str) -> bytes:
        """A private key as it is stored."""
        der = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return self._keyset.seal(der, USE, enrolment_id)

    async def standing(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Enrolment ids and certificates of identities whose keys are held here, in the order of their ids."""
        holds_key = sa.and_(wallet.c.revoked_at.is_(None), wallet.c.sealed_private_key.is_not(None))
        return await self._certificates(holds_key, after, limit)

    async def ended(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """As ``standing``, of those that were revoked."""
        return await self._certificates(wallet.c.revoked_at.is_not(None), after, limit)

    async def _certificates(self, condition: sa.ColumnElement[bool], after: str, limit: int) -> list[tuple[str, bytes]]:
        some = sa.select(wallet.c.enrolment_id, wallet.c.certificate_pem).where(condition)
        query = some.where(wallet.c.enrolment_id > after).order_by(wallet.c.enrolment_id).limit(limit)
        async with self._engine.connect() as connection:
            return [(row[0], row[1].encode()) for row in await connection.execute(query)]

    async def replace_certificate(self, enrolment_id: str, before: bytes, renewed: bytes) -> bool:
        """Has the identity act by its renewed certificate from the next request on. False when it was revoked, or
        renewed by somebody else.
        """
        change = sa.update(wallet).where(
            wallet.c.enrolment_id == enrolment_id,
            wallet.c.certificate_pem == before.decode(),
            wallet.c.revoked_at.is_(None),
        )
        async with self._engine.begin() as connection:
            return (await connection.execute(change.values(certificate_pem=renewed.decode()))).rowcount > 0

    async def revoke(self, connection: AsyncConnection, enrolment_id: str) -> bool:
        """Ends an identity in the caller's transaction, at once for every instance. False when it was not standing."""
        ended = await connection.execute(
            sa.update(wallet)
            .where(wallet.c.enrolment_id == enrolment_id, wallet.c.revoked_at.is_(None))
            .values(revoked_at=sa.func.now(), sealed_private_key=None)
        )
        return ended.rowcount > 0


_later = (
    sa.select(patient_key)
    .where(patient_key.c.emr_id == wallet.c.emr_id, patient_key.c.counts_from <= sa.func.now())
    .order_by(patient_key.c.counts_from.desc())
    .limit(1)
    .lateral("later")
)
_IS_LATER = _later.c.enrolment_id.is_not(None)
_CURRENT = sa.select(
    *(column for column in wallet.c if column.name not in REPLACED),
    *(sa.case((_IS_LATER, _later.c[name]), else_=wallet.c[name]).label(name) for name in REPLACED),
).select_from(wallet.outerjoin(_later, sa.true()))
"""The wallet with each patient's key that counts now."""


def _by(*names: str, revoked_too: bool = False) -> Statement:
    conditions = [wallet.c[name] == sa.bindparam(name) for name in names]
    return Statement(_CURRENT.where(*conditions, sa.true() if revoked_too else wallet.c.revoked_at.is_(None)))


_STANDING = _by("issuer", "subject")
_ENROLLED = _by("enrolment_id", revoked_too=True)
_PATIENT = _by("patient_id")
_OF_EMR = _by("emr_id")
