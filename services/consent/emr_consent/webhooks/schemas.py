"""Bodies of the webhooks' routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import httpx
from pydantic import AfterValidator, BaseModel, Field

from emr_consent.changes import Kind
from emr_consent.schemas import Body

WebhookId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["front-desk"])]


def _postable(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("not a URL") from None
    if parsed.scheme != "https" or not parsed.raw_host or parsed.userinfo or parsed.fragment:
        raise ValueError("not https, or with a user or a fragment")
    if not 0 < (443 if parsed.port is None else parsed.port) < 2**16:
        raise ValueError("not a port")
    return url


Url = Annotated[str, Field(max_length=2000, pattern=r"^https://[!-~]+$"), AfterValidator(_postable)]
Kinds = Annotated[list[Kind], Field(min_length=1, max_length=2)]


class WebhookIn(Body):
    """Where events are to be posted to. ``rotate_secret``: a new secret signs from now on, the old one a day more."""

    url: Url = Field(description="https, without user or fragment; its host must have a public address")
    kinds: Kinds = Field(default=["sharing", "disclosure"], description="Which events")
    rotate_secret: bool = False


class WebhookOut(Body):
    """A webhook as it stands. It is ``failing`` while the last attempt was no success, ``disabled`` once given up."""

    webhook_id: str
    url: str
    kinds: list[Kind]
    state: Literal["active", "failing", "disabled"]
    position: int = Field(description="Everything up to this block was delivered")
    failures: int = Field(description="Attempts since the last success")
    failing_since: datetime | None
    last_failure: str | None = Field(
        description="TIMEOUT, NAME_UNKNOWN, ADDRESS_REFUSED, CONNECTION_FAILED, TLS_FAILED, or STATUS_ and the status"
    )
    not_before: datetime | None = Field(description="When the next attempt is due")
    delivered_at: datetime | None = Field(description="When an event was last delivered")
    disabled_at: datetime | None
    created_at: datetime


class WebhookKeptOut(WebhookOut):
    secret: str | None = Field(description="Only when it is a new one: it is never told again")


class WebhookDeletedOut(Body):
    webhook_id: str


class WebhooksOut(BaseModel):
    webhooks: list[WebhookOut]
