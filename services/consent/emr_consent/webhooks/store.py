"""Tables ``hospital.webhook`` and ``hospital.webhook_secret``. Times are the database's, so that instances agree."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from emr_common import webhook_secrets
from emr_common.problems import Problem
from emr_common.sealing import WrappingKey
from emr_model.ledger.codes import Code
from emr_readmodel.hospital import webhook, webhook_secret
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_consent.webhooks import signing

MOST_WEBHOOKS = 20
MOST_SECRETS = 5
REPLACED_SIGNS_FOR = timedelta(days=1)

columns = webhook.c
_FRESH = {"failures": 0, "failing_since": None, "last_failure": None, "not_before": None, "disabled_at": None}


@dataclass(frozen=True)
class Webhook:
    """Everything up to block ``position`` was delivered, and of the block after it the events in ``delivered``.

    Whoever goes on with it must find ``revision`` unchanged.
    """

    webhook_id: str
    url: str
    kinds: Sequence[str]
    revision: str
    position: int
    delivered: Sequence[str]
    failures: int
    failing_since: datetime | None
    last_failure: str | None
    not_before: datetime | None
    delivered_at: datetime | None
    disabled_at: datetime | None
    created_at: datetime

    @property
    def state(self) -> str:
        if self.disabled_at is not None:
            return "disabled"
        return "failing" if self.failures else "active"


@dataclass(frozen=True)
class Kept:
    """``secret`` when there is a new one: it is never told again."""

    webhook: Webhook
    is_new: bool
    secret: bytes | None


class WebhookStore:
    def __init__(self, engine: AsyncEngine, keyset: WrappingKey) -> None:
        self._engine = engine
        self._keyset = keyset

    async def put(
        self, webhook_id: str, url: str, kinds: Sequence[str], *, position: int, by: str, new_secret: bool
    ) -> Kept:
        """Makes or changes a webhook. One that had been given up is in use again, from where it was.

        A new one begins after ``position``. Raises Problem WEBHOOK_LIMIT.
        """
        values = {"url": url, "kinds": list(kinds), "revision": secrets.token_hex(16)}
        made = {"webhook_id": webhook_id, "position": position, "created_by": by}
        async with self._engine.begin() as connection:
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
            changed = sa.update(webhook).where(columns.webhook_id == webhook_id).values({**values, **_FRESH})
            row = (await connection.execute(changed.returning(*_COLUMNS))).mappings().one_or_none()
            is_new = row is None
            if row is None:
                await _require_room(connection)
                inserted = sa.insert(webhook).values({**made, **values}).returning(*_COLUMNS)
                row = (await connection.execute(inserted)).mappings().one()
            secret = await self._add_secret(connection, webhook_id) if is_new or new_secret else None
        return Kept(Webhook(**row), is_new, secret)

    async def get(self, webhook_id: str) -> Webhook:
        """Raises Problem WEBHOOK_NOT_FOUND."""
        found = await self.find(webhook_id)
        if found is None:
            raise Problem(Code.WEBHOOK_NOT_FOUND)
        return found

    async def find(self, webhook_id: str) -> Webhook | None:
        query = sa.select(*_COLUMNS).where(columns.webhook_id == webhook_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else Webhook(**row)

    async def all(self) -> list[Webhook]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(sa.select(*_COLUMNS).order_by(columns.webhook_id))).mappings()
            return [Webhook(**row) for row in rows]

    async def delete(self, webhook_id: str) -> None:
        """Raises Problem WEBHOOK_NOT_FOUND."""
        async with self._engine.begin() as connection:
            if not (await connection.execute(sa.delete(webhook).where(columns.webhook_id == webhook_id))).rowcount:
                raise Problem(Code.WEBHOOK_NOT_FOUND)

    async def due(self, newest_block: int) -> list[str]:
        """Webhooks that have not been told everything up to ``newest_block``, and may be told now."""
        is_time = sa.or_(columns.not_before.is_(None), columns.not_before <= sa.func.now())
        query = sa.select(columns.webhook_id).where(
            columns.disabled_at.is_(None), columns.position < newest_block, is_time
        )
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query.order_by(columns.position)))

    async def secrets(self, webhook_id: str) -> list[bytes]:
        """By which a delivery is signed now, the newest first."""
        own = webhook_secret.c
        signs = sa.or_(own.replaced_at.is_(None), own.replaced_at > sa.func.now() - REPLACED_SIGNS_FOR)
        query = sa.select(own.sealed_secret, own.secret_id).where(own.webhook_id == webhook_id, signs)
        async with self._engine.connect() as connection:
            rows = await connection.execute(query.order_by(own.created_at.desc()).limit(MOST_SECRETS))
            return [webhook_secrets.unseal(self._keyset, bytes(sealed), name) for sealed, name in rows]

    async def told(self, known: Webhook, event_id: str) -> bool:
        """One event of a block was delivered. Whether the webhook is still what it was, as for the next two."""
        more = columns.delivered + sa.literal([event_id], columns.delivered.type)
        return await self._update(known, {**_FRESH, "delivered": more, "delivered_at": sa.func.now()})

    async def reached(self, known: Webhook, block: int) -> bool:
        """Everything up to a block was delivered."""
        return await self._update(known, {"position": block, "delivered": []})

    async def failed(self, known: Webhook, code: str, *, again_in: timedelta, give_up_after: timedelta) -> bool:
        """Whether it is given up, having failed for as long as that."""
        since = sa.func.coalesce(columns.failing_since, sa.func.clock_timestamp())
        now = sa.func.clock_timestamp()
        is_over = since <= now - give_up_after
        values = {
            "failures": columns.failures + 1,
            "failing_since": since,
            "last_failure": code,
            "not_before": now + again_in,
            "disabled_at": sa.case((is_over, now), else_=None),
        }
        changed = sa.update(webhook).where(*_same(known)).values(values).returning(columns.disabled_at)
        async with self._engine.begin() as connection:
            return await connection.scalar(changed) is not None

    async def _update(self, known: Webhook, values: Mapping[str, Any]) -> bool:
        async with self._engine.begin() as connection:
            changed = await connection.execute(sa.update(webhook).where(*_same(known)).values(values))
        return changed.rowcount > 0

    async def _add_secret(self, connection: AsyncConnection, webhook_id: str) -> bytes:
        own = webhook_secret.c
        of_this = own.webhook_id == webhook_id
        secret, secret_id = signing.new_secret(), secrets.token_hex(16)
        replaced = sa.update(webhook_secret).where(of_this, own.replaced_at.is_(None))
        await connection.execute(replaced.values(replaced_at=sa.func.now()))
        is_over = own.replaced_at <= sa.func.now() - REPLACED_SIGNS_FOR
        await connection.execute(sa.delete(webhook_secret).where(of_this, is_over))
        sealed = webhook_secrets.seal(self._keyset, secret, secret_id)
        row = {"secret_id": secret_id, "webhook_id": webhook_id, "sealed_secret": sealed}
        await connection.execute(sa.insert(webhook_secret).values(row))
        return secret


async def _require_room(connection: AsyncConnection) -> None:
    count = await connection.scalar(sa.select(sa.func.count()).select_from(webhook))
    if count is not None and count >= MOST_WEBHOOKS:
        raise Problem(Code.WEBHOOK_LIMIT)


def _same(known: Webhook) -> tuple[sa.ColumnElement[bool], ...]:
    return (columns.webhook_id == known.webhook_id, columns.revision == known.revision)


_ONE_AT_A_TIME = sa.func.hashtextextended("emr webhooks", 0)
_COLUMNS = [columns[name] for name in Webhook.__dataclass_fields__]
