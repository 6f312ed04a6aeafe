"""Sealing anew, by the primary key, what earlier keys of a rotated keyset have sealed; while services run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from emr_readmodel.hospital import emr_key, patient_key, wallet, webhook_secret
from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import webhook_secrets
from emr_common.sealing import WrappingKey
from emr_common.wallet import USE

BATCH = 200
SEALED_BY_EARLIER_KEYS = Gauge(
    "emr_sealed_by_earlier_keys", "Secrets at rest whose key is not the keyset's primary one", ["table"]
)


@dataclass(frozen=True)
class Sealed:
    """A column of sealed secrets, and how one of them, of the row that ``name`` names, is sealed anew."""

    table: sa.Table
    name: sa.Column[str]
    column: sa.Column[bytes]
    reseal: Callable[[WrappingKey, bytes, str], bytes]


def _wallet_key(keyset: WrappingKey, sealed: bytes, enrolment_id: str) -> bytes:
    return keyset.seal(keyset.open(sealed, USE, enrolment_id), USE, enrolment_id)


def _emr_key(keyset: WrappingKey, sealed: bytes, emr_id: str) -> bytes:
    return keyset.wrap(keyset.unwrap(sealed, emr_id), emr_id)


WALLET = Sealed(wallet, wallet.c.enrolment_id, wallet.c.sealed_private_key, _wallet_key)
NEXT_KEYS = Sealed(patient_key, patient_key.c.enrolment_id, patient_key.c.sealed_private_key, _wallet_key)
WEBHOOK_SECRETS = Sealed(
    webhook_secret, webhook_secret.c.secret_id, webhook_secret.c.sealed_secret, webhook_secrets.seal_anew
)
EMR_KEYS = Sealed(emr_key, emr_key.c.emr_id, emr_key.c.wrapped_keyset, _emr_key)
BY_KEYSET = {"wallet": (WALLET, NEXT_KEYS, WEBHOOK_SECRETS), "wrapping": (EMR_KEYS,)}
"""Everything that a keyset seals, by the keyset's name."""


class Resealing:
    def __init__(self, engine: AsyncEngine, keyset: WrappingKey, sealed: Sealed) -> None:
        self._engine = engine
        self._keyset = keyset
        self._sealed = sealed

    async def run(self) -> int:
        """Seals anew whatever is not sealed by the primary key; how many that were. May be cut off anywhere."""
        done, after = 0, ""
        while page := await self._page(after):
            for name, secret in page:
                done += await self._reseal(name, bytes(secret))
            after = page[-1][0]
        SEALED_BY_EARLIER_KEYS.labels(self._sealed.table.name).set(await self.remaining())
        return done

    async def remaining(self) -> int:
        """How many secrets an earlier key has sealed."""
        count, after = 0, ""
        while page := await self._page(after):
            count += sum(not self._keyset.is_current(bytes(secret)) for _, secret in page)
            after = page[-1][0]
        return count

    async def _page(self, after: str) -> list[tuple[str, bytes]]:
        name, column = self._sealed.name, self._sealed.column
        query = sa.select(name, column).where(name > after, column.is_not(None)).order_by(name).limit(BATCH)
        async with self._engine.connect() as connection:
            return [(row[0], row[1]) for row in await connection.execute(query)]

    async def _reseal(self, name: str, secret: bytes) -> int:
        """A row that somebody changed meanwhile is left alone: what they wrote is sealed by the primary key."""
        if self._keyset.is_current(secret):
            return 0
        sealed = self._sealed
        anew = sealed.reseal(self._keyset, secret, name)
        change = sa.update(sealed.table).where(sealed.name == name, sealed.column == secret)
        async with self._engine.begin() as connection:
            return (await connection.execute(change.values({sealed.column.name: anew}))).rowcount
