"""One more instance of a hospital's registration service, inside the test: so that a test can end it anywhere."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from emr_common.settings import load
from emr_registration.bootstrap import Services
from emr_registration.main import application
from emr_registration.settings import RegistrationSettings
from support.stack import Actor, Stack


@dataclass
class Instance:
    """``services`` are what its bootstrap made: a test may replace parts of them."""

    stack: Stack
    services: Services
    client: httpx.AsyncClient

    async def post_patient(self, actor: Actor, subject: str, patient: dict[str, Any], key: str) -> httpx.Response:
        token = await self.stack.token(actor.subject, actor.organization)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        return await self.client.post("/v1/patients", json={"subject": subject, "patient": patient}, headers=headers)


@asynccontextmanager
async def registration_instance(
    stack: Stack, organization: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Instance]:
    """With the settings of the one that the stack runs."""
    for name, value in (stack.process(f"registration-{organization}").program.environment or {}).items():
        monkeypatch.setenv(name, value)
    app = application(load(RegistrationSettings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://registration") as client,
    ):
        yield Instance(stack, app.state.services, client)


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"
