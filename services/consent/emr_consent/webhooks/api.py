"""Routes of webhooks, for administrators."""

from __future__ import annotations

from typing import Annotated

from emr_common.auth import require
from emr_common.boundary import PREFIX
from emr_common.routing import JsonRoute
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from fastapi import APIRouter, Depends, Request, Response

from emr_consent.webhooks.handlers import Webhooks
from emr_consent.webhooks.schemas import (
    WebhookDeletedOut,
    WebhookId,
    WebhookIn,
    WebhookKeptOut,
    WebhookOut,
    WebhooksOut,
)

router = APIRouter(prefix=PREFIX, route_class=JsonRoute, tags=["webhooks"])

Admin = Annotated[Caller, Depends(require(Role.ADMIN))]


async def _webhooks(request: Request) -> Webhooks:
    webhooks: Webhooks = request.app.state.services.webhooks
    return webhooks


WebhooksDep = Annotated[Webhooks, Depends(_webhooks)]


@router.put("/webhooks/{webhook_id}", responses={201: {"model": WebhookKeptOut}})
async def put_webhook(
    webhooks: WebhooksDep, caller: Admin, webhook_id: WebhookId, body: WebhookIn, response: Response
) -> WebhookKeptOut:
    """Makes a webhook, changes it, has its secret replaced, or puts one that was disabled to use again."""
    is_new, kept = await webhooks.put(caller, webhook_id, body)
    response.status_code = 201 if is_new else 200
    return kept


@router.get("/webhooks")
async def list_webhooks(webhooks: WebhooksDep, _: Admin) -> WebhooksOut:
    """All webhooks of the hospital."""
    return WebhooksOut(webhooks=await webhooks.all())


@router.get("/webhooks/{webhook_id}")
async def get_webhook(webhooks: WebhooksDep, _: Admin, webhook_id: WebhookId) -> WebhookOut:
    """How a webhook stands, and what went wrong with it last."""
    return await webhooks.get(webhook_id)


@router.delete("/webhooks/{webhook_id}")
async def delete_webhook(webhooks: WebhooksDep, _: Admin, webhook_id: WebhookId) -> WebhookDeletedOut:
    """Ends a webhook. What it has not been told, it is not told any more."""
    await webhooks.delete(webhook_id)
    return WebhookDeletedOut(webhook_id=webhook_id)
