"""SQL of the registration service, schema ``hospital`` only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from emr_common.emr_keys import EmrKeys
from emr_common.problems import Problem
from emr_common.sealing import ContentKey
from emr_model.ledger.codes import Code
from emr_model.ledger.values import Life
from emr_readmodel.care import emr
from emr_readmodel.hospital import emr_key, patient_identifier, patient_key, wallet
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

columns = patient_identifier.c


@dataclass(frozen=True)
class Reservation:
    """A patient's ids, from before the EMR exists. ``created_at`` moves on when an attempt takes them over."""

    identifier_hmac: bytes
    patient_id: str
    emr_id: str
    created_at: datetime


class Store:
    def __init__(self, engine: AsyncEngine, emr_keys: EmrKeys) -> None:
        self._engine = engine
        self._emr_keys = emr_keys

    async def reserve(self, identifier_hmac: bytes, patient_id: str, emr_id: str) -> Reservation | None:
        """Takes the patient's place with these ids; None when somebody has it."""
        offered = insert(patient_identifier).values(
            identifier_hmac=identifier_hmac, patient_id=patient_id, emr_id=emr_id
        )
        taken = offered.on_conflict_do_nothing(index_elements=[columns.identifier_hmac]).returning(*columns)
        async with self._engine.begin() as connection:
            row = (await connection.execute(taken)).one_or_none()
        return None if row is None else Reservation(*row)

    async def find(self, identifier_hmac: bytes) -> Reservation | None:
        async with self._engine.connect() as connection:
            query = sa.select(*columns).where(columns.identifier_hmac == identifier_hmac)
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Reservation(*row)

    async def take_over(self, reservation: Reservation, unless_younger_than: timedelta) -> Reservation | None:
        """Makes another attempt's reservation the caller's; None when it is too young, or somebody was faster."""
        age = sa.func.clock_timestamp() - columns.created_at
        taken = (
            sa.update(patient_identifier)
            .where(
                columns.identifier_hmac == reservation.identifier_hmac,
                columns.created_at == reservation.created_at,
                age >= unless_younger_than,
            )
            .values(created_at=sa.func.clock_timestamp())
            .returning(*columns)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(taken)).one_or_none()
        return None if row is None else Reservation(*row)

    async def recognize(self, emr_id: str, identifier_hmac: bytes) -> None:
        """Has the patient of an EMR recognized by another identifier from now on. Raises Problem
        PATIENT_ALREADY_REGISTERED when another patient came first.
        """
        changed = sa.update(patient_identifier).where(columns.emr_id == emr_id)
        try:
            async with self._engine.begin() as connection:
                await connection.execute(changed.values(identifier_hmac=identifier_hmac))
        except IntegrityError:
            raise Problem(Code.PATIENT_ALREADY_REGISTERED) from None

    async def content_key(self, emr_id: str) -> ContentKey:
        """The EMR's key, made now if it has none."""
        async with self._engine.begin() as connection:
            return await self._emr_keys.create(connection, emr_id)

    async def existing_key(self, emr_id: str) -> ContentKey:
        """Raises EmrKeyMissing."""
        return await self._emr_keys.get(emr_id)

    async def forget_patient(self, emr_id: str) -> Sequence[str]:
        """Destroys the EMR's key and everything that links its patient to a person, in one transaction. Repeatable.

        Returns the enrolment ids whose certificates are now to be revoked.
        """
        async with self._engine.begin() as connection:
            await self._emr_keys.destroy(connection, emr_id)
            await connection.execute(sa.delete(patient_identifier).where(columns.emr_id == emr_id))
            gone = sa.delete(wallet).where(wallet.c.emr_id == emr_id).returning(wallet.c.enrolment_id)
            following = (
                sa.delete(patient_key).where(patient_key.c.emr_id == emr_id).returning(patient_key.c.enrolment_id)
            )
            return [*await connection.scalars(gone), *await connection.scalars(following)]

    async def has_key(self, emr_id: str) -> bool:
        async with self._engine.connect() as connection:
            query = sa.select(sa.exists().where(emr_key.c.emr_id == emr_id))
            return bool(await connection.scalar(query))

    async def erased_with_key(self) -> Sequence[str]:
        """EMRs that the ledger says are erased and whose key is still here: an erasure that broke off."""
        query = (
            sa.select(emr_key.c.emr_id)
            .join(emr, emr.c.emr_id == emr_key.c.emr_id)
            .where(emr.c.life == Life.ERASED.value)
        )
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query))
