"""What administrators do with webhooks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from emr_common.problems import Problem
from emr_common.wallet import Caller
from emr_model.ledger.codes import Code

from emr_consent.changes import ChangeStore
from emr_consent.webhooks import signing
from emr_consent.webhooks.addresses import AddressRefused, NameUnknown
from emr_consent.webhooks.deliverer import Deliverer
from emr_consent.webhooks.schemas import WebhookIn, WebhookKeptOut, WebhookOut
from emr_consent.webhooks.sending import Sender
from emr_consent.webhooks.store import Webhook, WebhookStore


@dataclass(frozen=True)
class Webhooks:
    store: WebhookStore
    changes: ChangeStore
    sender: Sender
    deliverer: Deliverer

    async def put(self, caller: Caller, webhook_id: str, body: WebhookIn) -> tuple[bool, WebhookKeptOut]:
        """Whether it is new, and what it is now. A new one is told what comes after the newest block.

        Raises Problem WEBHOOK_ADDRESS_REFUSED or WEBHOOK_LIMIT. A name without an address may get one later.
        """
        try:
            with suppress(NameUnknown):
                await self.sender.check(body.url)
        except AddressRefused:
            raise Problem(Code.WEBHOOK_ADDRESS_REFUSED) from None
        kept = await self.store.put(
            webhook_id,
            body.url,
            sorted(set(body.kinds)),
            position=await self.changes.newest_block(),
            by=caller.enrolment_id,
            new_secret=body.rotate_secret,
        )
        self.deliverer.wake_up()
        secret = None if kept.secret is None else signing.shown(kept.secret)
        return kept.is_new, WebhookKeptOut(**_members(kept.webhook), secret=secret)

    async def get(self, webhook_id: str) -> WebhookOut:
        """Raises Problem WEBHOOK_NOT_FOUND."""
        return shown(await self.store.get(webhook_id))

    async def all(self) -> list[WebhookOut]:
        return [shown(webhook) for webhook in await self.store.all()]

    async def delete(self, webhook_id: str) -> None:
        """Raises Problem WEBHOOK_NOT_FOUND. An attempt that is under way still ends."""
        await self.store.delete(webhook_id)


def shown(webhook: Webhook) -> WebhookOut:
    return WebhookOut(**_members(webhook))


def _members(webhook: Webhook) -> dict[str, Any]:
    return {name: getattr(webhook, name) for name in WebhookOut.model_fields}
