"""Somebody who keeps the own key: it is made here, only a certificate request and signatures leave."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from emr_deploy.callers import Answer
from emr_network.enrolment import ADMIN
from hlf import crypto
from hlf.certs import new_csr
from support.stack import Actor, Stack

Sign = Callable[[bytes], bytes]


def request_of(role: str, key: ec.EllipticCurvePrivateKey, name: str = "") -> str:
    return new_csr(name or f"{role[0]}-{secrets.token_hex(8)}", key).decode()


@dataclass
class KeyHolder:
    stack: Stack
    actor: Actor
    sign: Sign

    @classmethod
    async def staff(cls, stack: Stack, organization: str, role: str) -> KeyHolder:
        key = crypto.new_private_key()
        return await cls.enrolled(stack, organization, role, request_of(role, key), lambda b: crypto.sign(key, b))

    @classmethod
    async def enrolled(cls, stack: Stack, organization: str, role: str, request: str, sign: Sign) -> KeyHolder:
        subject = f"{role}-{secrets.token_hex(4)}"
        body = {"subject": subject, "role": role, "certificateRequest": request}
        made = (await stack.call_as(organization, ADMIN, "registration", "POST", "/staff", body)).required()
        return cls(stack, Actor(organization, subject, role, made["enrolmentId"]), sign)

    async def prepare(self, service: str, function: str, *, key: str | None = None, **body: Any) -> Answer:
        headers = None if key is None else {"Idempotency-Key": key}
        wanted = {"function": function, **body}
        return await self.stack.call(self.actor, service, "POST", "/transactions/prepare", wanted, headers=headers)

    async def step(self, service: str, step: str, document: dict[str, Any], signature: bytes | None = None) -> Answer:
        """`document` is what the step before answered."""
        signed = self.sign(base64.b64decode(document["bytes"])) if signature is None else signature
        path = f"/transactions/{document['transactionId']}/{step}"
        return await self.stack.call(
            self.actor, service, "POST", path, {"signature": base64.b64encode(signed).decode()}
        )

    async def write(self, service: str, function: str, **body: Any) -> Answer:
        """All three steps."""
        prepared = (await self.prepare(service, function, **body)).required()
        endorsed = await self.step(service, "endorse", prepared)
        return endorsed if endorsed.status != 200 else await self.step(service, "submit", endorsed.body)

    async def read(self, service: str, function: str, **body: Any) -> Answer:
        return await self.step(service, "evaluate", (await self.prepare(service, function, **body)).required())
