"""Table ``hospital.patient_key``: keys to which patients are bound after the one of the wallet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from emr_readmodel.hospital import patient_key, wallet
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.preparations import SUBMIT_WITHIN
from emr_common.wallet import REPLACED, Wallet

UNSETTLED_AFTER = SUBMIT_WITHIN + timedelta(minutes=5)

columns = patient_key.c


@dataclass(frozen=True, repr=False)
class NextKey:
    enrolment_id: str
    emr_id: str
    certificate_pem: bytes


class NextKeys:
    def __init__(self, engine: AsyncEngine, wallet: Wallet) -> None:
        self._engine = engine
        self._wallet = wallet

    async def add(
        self, emr_id: str, enrolment_id: str, certificate_pem: bytes, private_key: ec.EllipticCurvePrivateKey | None
    ) -> None:
        """Stores a key of which it is not known yet whether it will count."""
        row = {
            "enrolment_id": enrolment_id,
            "emr_id": emr_id,
            "certificate_pem": certificate_pem.decode(),
            "sealed_private_key": None if private_key is None else self._wallet.seal(private_key, enrolment_id),
        }
        async with self._engine.begin() as connection:
            await connection.execute(sa.insert(patient_key).values(row))

    async def bind(self, emr_id: str, enrolment_id: str, counts_from: datetime) -> Sequence[str]:
        """Has it stand for the patient from then on. Repeatable. Returns the ids of those that it replaced."""
        is_it = columns.enrolment_id == enrolment_id
        replaced = sa.and_(columns.emr_id == emr_id, ~is_it, columns.counts_from > sa.func.now())
        async with self._engine.begin() as connection:
            await connection.execute(sa.update(patient_key).where(is_it).values(counts_from=counts_from))
            gone = sa.delete(patient_key).where(replaced).returning(columns.enrolment_id)
            return list(await connection.scalars(gone))

    async def settle_in(self) -> Sequence[str]:
        """Puts keys that count by now into the wallet, in the place of those that do not any more, whose ids it
        returns. Repeatable.
        """
        latest = (
            sa.select(patient_key)
            .where(columns.counts_from <= sa.func.now())
            .ext(distinct_on(columns.emr_id))
            .order_by(columns.emr_id, columns.counts_from.desc())
            .subquery()
        )
        before = wallet.alias("before")
        moved = (
            sa.update(wallet)
            .where(wallet.c.emr_id == latest.c.emr_id, wallet.c.enrolment_id == before.c.enrolment_id)
            .values({name: latest.c[name] for name in REPLACED})
            .returning(before.c.enrolment_id, wallet.c.emr_id)
        )
        async with self._engine.begin() as connection:
            ended = (await connection.execute(moved)).all()
            counted = sa.and_(columns.emr_id.in_([row[1] for row in ended]), columns.counts_from <= sa.func.now())
            await connection.execute(sa.delete(patient_key).where(counted))
        return [row[0] for row in ended]

    async def drop(self, enrolment_id: str) -> None:
        """It was not bound."""
        async with self._engine.begin() as connection:
            await connection.execute(sa.delete(patient_key).where(columns.enrolment_id == enrolment_id))

    async def unsettled(self) -> Sequence[NextKey]:
        """Keys whose binding nobody has settled in time."""
        is_old = columns.created_at < sa.func.now() - UNSETTLED_AFTER
        query = sa.select(columns.enrolment_id, columns.emr_id, columns.certificate_pem).where(
            columns.counts_from.is_(None), is_old
        )
        async with self._engine.connect() as connection:
            return [NextKey(row[0], row[1], row[2].encode()) for row in await connection.execute(query)]
