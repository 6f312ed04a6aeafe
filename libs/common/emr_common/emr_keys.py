"""Table ``hospital.emr_key``: a wrapped key for each own EMR. A backup must hold it, an erasure destroys a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import sqlalchemy as sa
from emr_readmodel.hospital import emr_key
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_common.access_log import Entry, entries_of
from emr_common.sealing import ContentKey, WrappingKey
from emr_common.statements import Statement

KEYS_CACHED = 1024
_of_emr = emr_key.c.emr_id == sa.bindparam("emr_id")
_found = sa.select(emr_key.c.emr_id, emr_key.c.wrapped_keyset).where(_of_emr).cte("found")
_KEY = Statement(sa.select(emr_key.c.wrapped_keyset).where(_of_emr))
_KEY_TO_READ = Statement(sa.select(_found.c.wrapped_keyset).add_cte(entries_of(_found.c.emr_id).cte("logged")))


class EmrKeyMissing(Exception):
    """The hospital holds no key for the EMR: it is another hospital's, or it was erased."""


class KeptKeys:
    """Keys as they are, unwrapped, of the EMRs used last: one costs as much to unwrap as three notes to decipher."""

    def __init__(self, wrapping: WrappingKey, most: int = KEYS_CACHED) -> None:
        self._wrapping = wrapping
        self._most = most
        self._keys: OrderedDict[str, tuple[bytes, ContentKey]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def unwrapped(self, emr_id: str, wrapped: bytes) -> ContentKey:
        """Raises SealingFailed."""
        known = self._keys.get(emr_id)
        if known is None or known[0] != wrapped:
            known = self._keys[emr_id] = (wrapped, self._wrapping.unwrap(wrapped, emr_id))
        self._keys.move_to_end(emr_id)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)
        return known[1]

    def kept(self, emr_id: str) -> ContentKey | None:
        """What it was when it was last unwrapped, whatever has become of it since."""
        return known[1] if (known := self._keys.get(emr_id)) else None

    def forget(self, emr_ids: Iterable[str]) -> None:
        """Their keys are gone from where they were kept."""
        for emr_id in emr_ids:
            self._keys.pop(emr_id, None)


class EmrKeys:
    """The table of EMR keys: the only thing that can open a hospital's own content, and what an erasure destroys."""

    def __init__(self, engine: AsyncEngine, wrapping: WrappingKey) -> None:
        self._engine = engine
        self._wrapping = wrapping
        self._kept = KeptKeys(wrapping)

    async def get(self, emr_id: str, read: Entry | None = None) -> ContentKey:
        """Raises EmrKeyMissing, also right after an erasure: the table is asked every time. SealingFailed for a foreign
        row.

        A ``read`` that the key is for is in the access log once this returns, by the same statement: who has to be
        logged gets no key without it. Without a key there is no entry.
        """
        if read is None:
            row = await _KEY.row(self._engine, emr_id=emr_id)
        else:
            row = await _KEY_TO_READ.row(self._engine, emr_id=emr_id, **read.values())
        if row is None:
            self._kept.forget([emr_id])
            raise EmrKeyMissing(emr_id)
        return self._kept.unwrapped(emr_id, row["wrapped_keyset"])

    async def create(self, connection: AsyncConnection, emr_id: str) -> ContentKey:
        """The EMR's key, made in the caller's transaction unless it has one already."""
        wrapped = self._wrapping.wrap(ContentKey.generate(), emr_id)
        await connection.execute(
            insert(emr_key)
            .values(emr_id=emr_id, wrapped_keyset=wrapped)
            .on_conflict_do_nothing(index_elements=["emr_id"])
        )
        stored = await connection.scalars(sa.select(emr_key.c.wrapped_keyset).where(emr_key.c.emr_id == emr_id))
        return self._kept.unwrapped(emr_id, stored.one())

    async def destroy(self, connection: AsyncConnection, emr_id: str) -> None:
        """Makes every copy of the EMR's content unreadable, once the caller's transaction commits. Repeatable."""
        await connection.execute(sa.delete(emr_key).where(emr_key.c.emr_id == emr_id))
        self._kept.forget([emr_id])
